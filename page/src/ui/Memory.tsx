/** What the agent remembers, each fact with the sentence that taught it and a way to have it forgotten. */
import { useState } from "react";
import { originOf, type Fact } from "../memory/facts";

interface Props {
  facts: readonly Fact[] | null;
  fresh: readonly string[];
  /** Asks the agent; null while there is nobody to ask. */
  forget: ((id: string) => Promise<string | null>) | null;
  empty: string;
}

export function Memory({ facts, fresh, forget, empty }: Props) {
  return (
    <section className="panel memory" aria-labelledby="memory-title">
      <h2 id="memory-title">
        What I remember about you
        {facts && facts.length > 0 && <span className="count">{facts.length}</span>}
      </h2>
      {!facts || facts.length === 0 ? (
        <p className="empty">{empty}</p>
      ) : (
        <ul aria-live="polite" aria-relevant="additions">
          {facts.map((fact) => (
            <FactItem key={fact.id} fact={fact} isNew={fresh.includes(fact.id)} forget={forget} />
          ))}
        </ul>
      )}
      {facts && facts.length > 0 && !forget && <p className="help">To have something forgotten, call again.</p>}
    </section>
  );
}

function FactItem({ fact, isNew, forget }: { fact: Fact; isNew: boolean; forget: Props["forget"] }) {
  const [step, setStep] = useState<"shown" | "sure" | "asking">("shown");
  const [refusal, setRefusal] = useState<string | null>(null);
  const ask = async () => {
    if (!forget) return;
    setStep("asking");
    setRefusal(await forget(fact.id));
    setStep("shown");
  };
  return (
    <li className="fact" data-testid="memory-fact" data-id={fact.id} data-new={isNew}>
      <p className="fact-text">
        {fact.text}
        {isNew && <span className="tag">new</span>}
      </p>
      <p className="because">{fact.because ? <q>{fact.because}</q> : originOf(fact.source)}</p>
      {refusal && (
        <p className="refusal" role="alert">
          {refusal}
        </p>
      )}
      {step === "shown" && forget && (
        <button
          type="button"
          className="quiet small"
          data-testid="forget"
          aria-label={`Forget: ${fact.text}`}
          onClick={() => setStep("sure")}
        >
          Forget
        </button>
      )}
      {step === "sure" && (
        <div className="row confirm" role="group" aria-label={`Forget for good: ${fact.text}?`}>
          <span>Forget for good?</span>
          <button type="button" className="danger small" data-testid="forget-confirm" autoFocus onClick={() => void ask()}>
            Forget
          </button>
          <button type="button" className="quiet small" onClick={() => setStep("shown")}>
            Keep
          </button>
        </div>
      )}
      {step === "asking" && <p className="help">Forgetting…</p>}
    </li>
  );
}
