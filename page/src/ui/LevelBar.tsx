/** A level as a bar. Drawn outside React: sixty renders a second for one width would be waste. */
import { useEffect, useRef } from "react";

interface Props {
  read: () => number;
  label: string;
  testId?: string;
}

export function LevelBar({ read, label, testId }: Props) {
  const bar = useRef<HTMLDivElement>(null);
  useEffect(() => {
    let frame = 0;
    let shown = 0;
    const draw = () => {
      const level = read();
      shown = level > shown ? level : shown * 0.9; // falls slowly, so that a short word stays visible
      bar.current?.style.setProperty("--level", shown.toFixed(3));
      bar.current?.setAttribute("aria-valuenow", String(Math.round(shown * 100)));
      frame = requestAnimationFrame(draw);
    };
    draw();
    return () => cancelAnimationFrame(frame);
  }, [read]);
  return (
    <div
      ref={bar}
      className="level"
      role="meter"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={0}
      data-testid={testId}
    >
      <span />
    </div>
  );
}
