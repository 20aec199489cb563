/** The call itself, and what is left of it after the end. */
import { useState, type FormEvent } from "react";
import type { Call } from "../call/call";
import { hintWords } from "../call/hints";
import { STEPS, type Step } from "../call/state";
import { asText } from "../call/transcript";
import type { CallView } from "../call/view";
import { textOf } from "../problem";
import { LevelBar } from "./LevelBar";
import { MicSelect } from "./MicSelect";
import { ProblemCard } from "./ProblemCard";
import { Transcript } from "./Transcript";
import { VoiceBars } from "./VoiceBars";

const [ASKED, ...FURTHER] = STEPS;
const WITH_BUSY = [ASKED, "busy", ...FURTHER] as const;

interface Props {
  call: Call;
  view: CallView;
  desk: string;
  devices: MediaDeviceInfo[];
  deviceId: string;
  onDevice: (deviceId: string) => void;
  /** A new call with the same desk and name. */
  onAgain: () => void;
  onBack: () => void;
}

export function CallPanel(props: Props) {
  const { call, view, desk } = props;
  const over = view.connection === "ended";
  return (
    <section className="panel call" aria-label={`Call with ${desk}`}>
      <header className="call-head">
        <div>
          <h2>{desk}</h2>
          <Steps reached={view.state.step} reachedMs={view.reachedMs} />
        </div>
        <span
          className="state"
          role="status"
          data-testid="state"
          data-step={over ? "ended" : view.state.step}
          data-activity={view.state.activity}
        >
          <VoiceBars voice={view.voice} activity={view.state.activity} />
          {view.state.words}
        </span>
      </header>
      <Transcript
        lines={view.lines}
        agent={desk}
        empty={over ? "Nothing was said in this call." : "The words of both sides appear here."}
      />
      {over ? <After {...props} /> : <During {...props} />}
      <span className="visually-hidden" aria-live="polite">
        {call.mic === null && !over ? "You have no microphone in this call. Type instead." : ""}
      </span>
    </section>
  );
}

function Steps({ reached, reachedMs }: { reached: Step | "busy"; reachedMs: CallView["reachedMs"] }) {
  const steps = reached === "busy" ? WITH_BUSY : STEPS;
  const at = steps.findIndex((step) => step === reached);
  return (
    <ol className="steps" aria-label="Progress of the call">
      {steps.map((step, index) => {
        const ms = step === "busy" ? undefined : reachedMs[step];
        return (
          <li key={step} data-done={index <= at} aria-current={index === at ? "step" : undefined}>
            {step}
            {ms !== undefined && index <= at && ms > 0 && <small> {(ms / 1000).toFixed(1)} s</small>}
          </li>
        );
      })}
    </ol>
  );
}

function During({ call, view, devices, deviceId, onDevice, onAgain }: Props) {
  const { notice } = view.state;
  return (
    <>
      <div className="notes" aria-live="polite">
        {notice && (
          <div className="card-note" data-testid="notice">
            <p>{notice.words}</p>
            {notice.retry && (
              <button type="button" className="small" data-testid="retry" onClick={onAgain}>
                Try a new call
              </button>
            )}
          </div>
        )}
        {view.soundBlocked && (
          <div className="card-note" data-testid="sound-blocked">
            <p>The browser is holding the sound back.</p>
            <button type="button" className="small primary" data-testid="start-audio" onClick={() => void call.allowSound()}>
              Turn sound on
            </button>
          </div>
        )}
        {view.micTrouble && <ProblemCard problem={view.micTrouble} testId="mic-problem" />}
        {view.hint && (
          <div className="card-note" data-testid="hint" data-hint={view.hint}>
            <p>{hintWords(view.hint)}</p>
          </div>
        )}
      </div>
      <Composer call={call} ready={canHear(view.state)} />
      <div className="controls">
        {call.mic && (
          <>
            <button
              type="button"
              className="mute"
              data-testid="mute"
              aria-pressed={view.muted}
              onClick={() => void call.setMuted(!view.muted)}
            >
              {view.muted ? "Unmute" : "Mute"}
            </button>
            {view.muted ? <span className="help grow">You are muted.</span> : <LevelBar read={call.level} label="Your microphone" />}
            <MicSelect devices={devices} value={deviceId} onChange={onDevice} />
          </>
        )}
        {!call.mic && <span className="help grow">No microphone in this call; type instead.</span>}
        <button type="button" className="danger" data-testid="end" onClick={() => void call.end()}>
          End call
        </button>
      </div>
    </>
  );
}

/** Whether typed text reaches somebody: an agent in service, even one that has no sound. */
function canHear({ step, activity }: CallView["state"]): boolean {
  if (step === "requested" || step === "busy") return false;
  return step !== "accepted" || activity === "listening" || activity === "thinking" || activity === "speaking";
}

function Composer({ call, ready }: { call: Call; ready: boolean }) {
  const [text, setText] = useState("");
  const [failure, setFailure] = useState<string | null>(null);
  const send = async (event: FormEvent) => {
    event.preventDefault();
    const line = text.trim();
    if (!line || !ready) return;
    try {
      await call.say(line);
      setText("");
      setFailure(null);
    } catch (error) {
      setFailure(`Not sent (${textOf(error)}). Your text is still here; try again.`);
    }
  };
  return (
    <form className="composer" onSubmit={(event) => void send(event)}>
      <input
        aria-label="Type to the agent"
        data-testid="chat"
        placeholder={ready ? "Or type here" : "Typing works as soon as the agent has joined"}
        value={text}
        maxLength={2000}
        onChange={(event) => setText(event.target.value)}
      />
      <button type="submit" data-testid="send" disabled={!ready || text.trim() === ""}>
        Send
      </button>
      {failure && (
        <p className="refusal" role="alert">
          {failure}
        </p>
      )}
    </form>
  );
}

function After({ view, desk, onAgain, onBack }: Props) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(asText(view.lines, desk));
    setCopied(true);
  };
  const { ending } = view;
  const lasted = `${Math.floor(view.lastedS / 60)}:${String(view.lastedS % 60).padStart(2, "0")}`;
  return (
    <div className="after">
      {ending?.problem ? (
        <ProblemCard problem={ending.problem} testId="error" />
      ) : (
        <p className="ended" role="status" data-testid="ending">
          {ending?.words} <span className="help">It lasted {lasted}.</span>
        </p>
      )}
      <div className="controls">
        <button type="button" className="primary" data-testid="start" onClick={onAgain}>
          Call again
        </button>
        <button type="button" data-testid="back" onClick={onBack}>
          Change desk or name
        </button>
        {view.lines.length > 0 && navigator.clipboard && (
          <button type="button" className="quiet" onClick={() => void copy()}>
            {copied ? "Copied" : "Copy transcript"}
          </button>
        )}
      </div>
    </div>
  );
}
