/** A problem with its remedy, read out at once. */
import type { ReactNode } from "react";
import type { Problem } from "../problem";

interface Props {
  problem: Problem;
  testId: "error" | "mic-problem";
  children?: ReactNode;
}

export function ProblemCard({ problem, testId, children }: Props) {
  return (
    <div className="card-note problem" role="alert" data-testid={testId}>
      <strong>{problem.title}</strong>
      <p>{problem.remedy}</p>
      {problem.command && (
        <pre>
          <code>{problem.command}</code>
        </pre>
      )}
      {problem.detail && <p className="detail">Details: {problem.detail}</p>}
      {children && <div className="row">{children}</div>}
    </div>
  );
}
