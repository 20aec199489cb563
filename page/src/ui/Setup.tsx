/** Before the call: which desk, who is calling, and whether the microphone works. */
import { useId, type FormEvent } from "react";
import type { About, Desk } from "../api";
import type { MicCheck } from "../mic/useMicCheck";
import type { Problem } from "../problem";
import type { Settings } from "../settings";
import { LevelBar } from "./LevelBar";
import { MicSelect } from "./MicSelect";
import { ProblemCard } from "./ProblemCard";

interface Props {
  about: About | null;
  desks: Desk[];
  settings: Settings;
  mic: MicCheck;
  signedIn: boolean;
  starting: boolean;
  problem: Problem | null;
  onSettings: (change: Partial<Settings>) => void;
  onStart: (withMicrophone: boolean) => void;
}

export function Setup({ about, desks, settings, mic, signedIn, starting, problem, onSettings, onStart }: Props) {
  const blocked = starting || desks.length === 0 || (about?.auth === "jwt" && !signedIn);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (!blocked) onStart(true);
  };
  return (
    <form className="panel setup" onSubmit={submit} aria-label="Place a call">
      <Desks desks={desks} chosen={settings.desk} onChoose={(desk) => onSettings({ desk })} />
      {about?.auth === "jwt" ? (
        <SignedIn yes={signedIn} />
      ) : (
        <Who who={settings.who} demo={about?.auth === "demo"} onWho={(who) => onSettings({ who })} />
      )}
      <Microphone mic={mic} settings={settings} onSettings={onSettings} onType={() => !blocked && onStart(false)} />
      {problem && <ProblemCard problem={problem} testId="error" />}
      <button className="primary big" type="submit" data-testid="start" disabled={blocked}>
        {starting ? "Opening the microphone…" : problem ? "Try again" : "Start call"}
      </button>
    </form>
  );
}

function Desks({ desks, chosen, onChoose }: { desks: Desk[]; chosen: string; onChoose: (name: string) => void }) {
  return (
    <fieldset>
      <legend>Who would you like to talk to?</legend>
      <div className="desks">
        {desks.map((desk) => (
          <label key={desk.name} className="desk">
            <input
              type="radio"
              name="desk"
              data-testid="desk"
              value={desk.name}
              checked={desk.name === chosen}
              onChange={() => onChoose(desk.name)}
            />
            <span className="desk-text">
              <strong>{desk.title}</strong>
              <span>{desk.description}</span>
            </span>
          </label>
        ))}
      </div>
    </fieldset>
  );
}

function Who({ who, demo, onWho }: { who: string; demo: boolean; onWho: (who: string) => void }) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>Who are you?</label>
      <input
        id={id}
        data-testid="who"
        value={who}
        maxLength={100}
        placeholder="Your name or phone number"
        autoComplete="nickname"
        spellCheck={false}
        aria-describedby={`${id}-help`}
        onChange={(event) => onWho(event.target.value)}
      />
      <p className="help" id={`${id}-help`}>
        {who.trim() === ""
          ? "Left empty, nothing is remembered after the call."
          : demo
            ? "Anyone who types this name shares its memory."
            : "Memory is kept under this name."}
      </p>
    </div>
  );
}

function SignedIn({ yes }: { yes: boolean }) {
  return yes ? (
    <p className="help">You are signed in.</p>
  ) : (
    <ProblemCard
      testId="error"
      problem={{ title: "You are not signed in.", remedy: "Open this page from your company's own link." }}
    />
  );
}

interface MicrophoneProps {
  mic: MicCheck;
  settings: Settings;
  onSettings: (change: Partial<Settings>) => void;
  onType: () => void;
}

function Microphone({ mic, settings, onSettings, onType }: MicrophoneProps) {
  const choose = (deviceId: string) => {
    onSettings({ deviceId });
    void mic.open(deviceId);
  };
  return (
    <div className="field" role="group" aria-label="Microphone check">
      <span className="label">Your microphone</span>
      {(mic.status === "idle" || mic.status === "opening") && (
        <div className="row">
          <button
            type="button"
            data-testid="mic-check"
            disabled={mic.status === "opening"}
            onClick={() => void mic.open(settings.deviceId)}
          >
            {mic.status === "opening" ? "Waiting for permission…" : "Check microphone"}
          </button>
          <span className="help">Nobody is called yet.</span>
        </div>
      )}
      {mic.status === "open" && (
        <>
          <div className="row">
            <LevelBar read={mic.level} label="Microphone level" testId="mic-level" />
            <span className="help mic-said" aria-live="polite">
              {mic.heard ? "I can hear you." : "Say something…"}
            </span>
          </div>
          <MicSelect devices={mic.devices} value={settings.deviceId} onChange={choose} />
        </>
      )}
      {mic.status === "problem" && mic.problem && (
        <ProblemCard problem={mic.problem} testId="mic-problem">
          <button type="button" data-testid="mic-check" onClick={() => void mic.open("")}>
            Try again
          </button>
          <button type="button" className="quiet" data-testid="start-typing" onClick={onType}>
            Call without a microphone and type
          </button>
        </ProblemCard>
      )}
    </div>
  );
}
