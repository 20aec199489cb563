/** The one screen: setup or call on the left, what is remembered on the right. Holds which call there is. */
import { Room } from "livekit-client";
import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from "react";
import { ApiError, fetchAbout, fetchDesks, fetchTicket, type About, type Desk, type Engine } from "../api";
import { Call } from "../call/call";
import type { CallView } from "../call/view";
import { microphones, openMicrophone } from "../mic/microphone";
import { useMicCheck } from "../mic/useMicCheck";
import { textOf, type Problem } from "../problem";
import { loadSettings, saveSettings, type Settings } from "../settings";
import { CallPanel } from "./CallPanel";
import { DemoBrain } from "./DemoBrain";
import { Memory } from "./Memory";
import { ProblemCard } from "./ProblemCard";
import { Setup } from "./Setup";
import icon from "./icon.svg";

interface Placed {
  call: Call;
  desk: Desk;
  who: string;
}

export function App({ bearer }: { bearer: string | null }) {
  const server = useServer();
  const [settings, change] = useSettings(server.desks);
  const mic = useMicCheck(settings.deviceId);
  const audio = useRef<HTMLAudioElement>(null);
  const [placed, setPlaced] = useState<Placed | null>(null);
  const [screen, setScreen] = useState<"setup" | "call">("setup");
  const [starting, setStarting] = useState(false);
  const [devices, setDevices] = useState<MediaDeviceInfo[]>([]);
  const view = useCallView(placed?.call ?? null);

  const start = async (withMicrophone: boolean) => {
    const desk = server.desks.find((one) => one.name === settings.desk);
    if (!desk || starting) return;
    setStarting(true);
    const room = new Room({ audioCaptureDefaults: settings.deviceId ? { deviceId: settings.deviceId } : {} });
    // Inside the click: browsers give sound only to those who asked during one. A refusal shows itself in the call.
    room.startAudio().catch(() => undefined);
    mic.close();
    const opened = withMicrophone ? await openMicrophone(settings.deviceId) : null;
    setStarting(false);
    if (opened?.problem) {
      setScreen("setup");
      mic.fail(opened.problem);
      return room.disconnect();
    }
    const who = settings.who.trim();
    const call = new Call({
      room,
      audio: audio.current!,
      mic: opened?.track ?? null,
      ticket: () => fetchTicket({ desk: desk.name, who, bearer }),
      facts: placed && placed.who === who ? placed.call.view.facts : null,
    });
    setPlaced({ call, desk, who });
    setScreen("call");
    void microphones().then(setDevices);
    await call.start();
  };
  const again = async () => {
    const withMicrophone = placed?.call.mic !== null;
    if (view?.connection !== "ended") await placed?.call.end();
    await start(withMicrophone);
  };

  const failedBefore = view?.connection === "ended" && !view.wasOpen;
  const inCall = screen === "call" && placed !== null && view !== null && !failedBefore;
  const live = inCall && view.connection !== "ended";
  // Facts stay on the screen after the call, but not under another name.
  const mine = placed !== null && (live || placed.who === settings.who.trim());
  return (
    <div className="page">
      <header className="top">
        <img src={icon} alt="" width="32" height="32" />
        <h1>Call a desk that remembers you</h1>
      </header>
      <main>
        {server.problem && <ProblemCard problem={server.problem} testId="error" />}
        {inCall ? (
          <CallPanel
            call={placed.call}
            view={view}
            desk={placed.desk.title}
            devices={devices}
            deviceId={settings.deviceId}
            onDevice={(deviceId) => {
              change({ deviceId });
              void placed.call.changeMicrophone(deviceId);
            }}
            onAgain={() => void again()}
            onBack={() => setScreen("setup")}
          />
        ) : (
          <Setup
            about={server.about}
            desks={server.desks}
            settings={settings}
            mic={mic}
            signedIn={bearer !== null}
            starting={starting}
            problem={failedBefore ? (view.ending?.problem ?? null) : null}
            onSettings={change}
            onStart={(withMicrophone) => void start(withMicrophone)}
          />
        )}
        <aside>
          <Memory
            facts={mine && view ? view.facts : null}
            fresh={mine && view ? view.fresh : []}
            forget={live && placed ? (id) => placed.call.forget(id) : null}
            empty={memoryEmpty(live, view, settings.who.trim())}
          />
          {server.about && <DemoBrain about={server.about} open={!inCall} />}
        </aside>
      </main>
      <Footer about={server.about} />
      {/* The only one: every call plays through it, so two voices can never sound at once. */}
      <audio ref={audio} hidden autoPlay playsInline />
    </div>
  );
}

function memoryEmpty(live: boolean, view: CallView | null, who: string): string {
  if (live && view?.facts === null) return "The agent has not said yet what it remembers.";
  if (live) return "Nothing yet. Say your name, or something you like.";
  return who
    ? "During a call, facts appear here while you speak, each with the sentence that taught it."
    : "Say who you are, and facts about you appear here during a call.";
}

function Footer({ about }: { about: About | null }) {
  const said = (role: string, engine: Engine | undefined): string[] => {
    const name = engine?.name ?? (engine?.local ? "on this machine" : "");
    return name ? [`${role} ${name}`] : [];
  };
  const { llm, stt, tts } = about?.engines ?? {};
  return (
    <footer>
      <span>{[...said("ears", stt), ...said("brain", llm), ...said("voice", tts)].join(" · ")}</span>
      <span data-testid="build">{about ? `build ${about.build_id}` : ""}</span>
    </footer>
  );
}

function useServer() {
  const [about, setAbout] = useState<About | null>(null);
  const [desks, setDesks] = useState<Desk[]>([]);
  const [problem, setProblem] = useState<Problem | null>(null);
  useEffect(() => {
    Promise.all([fetchAbout(), fetchDesks()]).then(
      ([foundAbout, foundDesks]) => {
        setAbout(foundAbout);
        setDesks(foundDesks);
        if (foundDesks.length === 0) {
          setProblem({ title: "No desk is open.", remedy: "See which desks are configured:", command: "voicectl doctor" });
        }
      },
      (error: unknown) =>
        setProblem(
          error instanceof ApiError
            ? error.problem
            : { title: "The page could not be set up.", remedy: "Reload it.", detail: textOf(error) },
        ),
    );
  }, []);
  return { about, desks, problem };
}

/** The settings of this browser; a desk that is no longer there gives way to the first. */
function useSettings(desks: Desk[]): [Settings, (change: Partial<Settings>) => void] {
  const [settings, setSettings] = useState(loadSettings);
  const change = useCallback((part: Partial<Settings>) => {
    setSettings((before) => {
      const after = { ...before, ...part };
      saveSettings(after);
      return after;
    });
  }, []);
  const known = desks.some((desk) => desk.name === settings.desk);
  return [known || !desks[0] ? settings : { ...settings, desk: desks[0].name }, change];
}

const never = () => () => undefined;

function useCallView(call: Call | null): CallView | null {
  return useSyncExternalStore<CallView | null>(call?.subscribe ?? never, () => call?.view ?? null);
}
