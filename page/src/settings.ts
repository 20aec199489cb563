/** What this browser remembers between visits: desk, name, microphone. No token is ever stored. */

export interface Settings {
  desk: string;
  who: string;
  deviceId: string;
}

const KEY = "voicectl.page";
const NONE: Settings = { desk: "", who: "", deviceId: "" };

export function loadSettings(): Settings {
  try {
    const saved: unknown = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    const read = (name: keyof Settings): string => {
      const value = (saved as Record<string, unknown> | null)?.[name];
      return typeof value === "string" ? value : "";
    };
    return { desk: read("desk"), who: read("who"), deviceId: read("deviceId") };
  } catch {
    return NONE; // storage is off, or holds something of an older build: begin afresh
  }
}

export function saveSettings(settings: Settings): void {
  try {
    localStorage.setItem(KEY, JSON.stringify(settings));
  } catch {
    // Storage is off or full: the page works, it only asks again next time.
  }
}

/** The company's token from the address (#token=…), which is then cleared so that it stays out of history and shares. */
export function takeBearer(): string | null {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) history.replaceState(null, "", location.pathname + location.search);
  return token;
}
