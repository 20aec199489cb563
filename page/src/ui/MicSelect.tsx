/** Which microphone; shown only where there is a choice. */

interface Props {
  devices: MediaDeviceInfo[];
  value: string;
  onChange: (deviceId: string) => void;
}

export function MicSelect({ devices, value, onChange }: Props) {
  const named = devices.filter((device) => device.label !== "");
  if (named.length < 2) return null;
  const known = named.some((device) => device.deviceId === value);
  return (
    <select
      aria-label="Microphone"
      className="mic-select"
      value={known ? value : named[0]!.deviceId}
      onChange={(event) => onChange(event.target.value)}
    >
      {named.map((device) => (
        <option key={device.deviceId} value={device.deviceId}>
          {device.label}
        </option>
      ))}
    </select>
  );
}
