/** Both sides' words. Follows the end, unless the reader has scrolled up. */
import { useEffect, useMemo, useRef } from "react";
import { bubbles, type Line } from "../call/transcript";

const NEAR_END_PX = 80;

export function Transcript({ lines, agent, empty }: { lines: readonly Line[]; agent: string; empty: string }) {
  const shown = useMemo(() => bubbles(lines), [lines]);
  const box = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  useEffect(() => {
    const node = box.current;
    if (node && follows.current) node.scrollTop = node.scrollHeight;
  }, [shown]);
  const onScroll = () => {
    const node = box.current;
    if (node) follows.current = node.scrollHeight - node.scrollTop - node.clientHeight < NEAR_END_PX;
  };
  return (
    <div
      ref={box}
      className="transcript"
      role="log"
      aria-label="Transcript"
      aria-live="polite"
      tabIndex={0}
      data-testid="transcript"
      onScroll={onScroll}
    >
      {shown.length === 0 && <p className="empty">{empty}</p>}
      {shown.map((line) => (
        <p key={`${line.role}-${line.id}`} className="line" data-role={line.role} data-final={line.final}>
          <span className="speaker">{line.role === "user" ? (line.typed ? "You, typed" : "You") : agent}</span>
          <span className="words">{line.text}</span>
        </p>
      ))}
    </div>
  );
}
