/** Says plainly when a small local model does the thinking, and how to change that. */
import type { About } from "../api";

export function DemoBrain({ about, open }: { about: About; open: boolean }) {
  if (!about.engines.llm?.local) return null;
  return (
    <details className="demo-brain" open={open} data-testid="demo-brain">
      <summary>Demo brain: small local model</summary>
      <p>
        The language model runs on this machine, without a key. It is good for trying things out, and easily confused. To
        switch, put a key into <code>.env</code> and restart:
      </p>
      <pre>
        <code>{"OPENAI_API_KEY=...\n./restart_voice_system.sh"}</code>
      </pre>
    </details>
  );
}
