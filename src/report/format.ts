/**
 * `digits` significant digits without exponent: 0.0123, 1.23, 123, 12300. Numbers that are not finite become "–".
 */
export function significant(x: number, digits = 3): string {
  if (!Number.isFinite(x)) return "–";
  const rounded = Number(x.toPrecision(digits));
  if (rounded === 0) return "0";
  const magnitude = Math.floor(Math.log10(Math.abs(rounded)));
  return rounded.toFixed(Math.min(12, Math.max(0, digits - 1 - magnitude)));
}

/** An integer with its thousands apart: "272 474". */
export function count(n: number): string {
  if (!Number.isFinite(n)) return "–";
  return Math.round(n)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, " ");
}

function scaled(x: number, units: readonly (readonly [size: number, name: string])[]): string {
  if (!Number.isFinite(x)) return "–";
  const rounded = Number(Math.abs(x).toPrecision(3));
  const [size, name] = units.find(([from]) => rounded >= from) ?? units.at(-1)!;
  return `${significant(x / size)}${name === "" ? "" : ` ${name}`}`;
}

/** A space inside a number or between it and its unit: no place to break a line. */
export const innerSpace = /(?<=\d) (?=\d{3}(?!\d)|(?:[kMGT]?B|[kMGT]|[mµn]?[sJ]|min|h|%|dB|points?)(?!\w))/g;

/** A number of bytes, decimal prefixes: "812 B", "27.2 MB". */
export function bytes(n: number): string {
  if (Math.abs(n) < 999.5) return Number.isFinite(n) ? `${Math.round(n)} B` : "–";
  return scaled(n, [
    [1e12, "TB"],
    [1e9, "GB"],
    [1e6, "MB"],
    [1e3, "kB"],
  ]);
}

/** A large number with its prefix: "40.8 M". */
export function compact(n: number): string {
  if (Math.abs(n) < 999.5) return Number.isInteger(n) ? String(n) : significant(n);
  return scaled(n, [
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ]);
}

/** A time given in milliseconds: "85.0 µs", "12.3 ms", "4.10 s", "3 min 5 s", "2 h 10 min". */
export function milliseconds(ms: number): string {
  const seconds = Math.round(ms / 1e3);
  const minutes = Math.round(seconds / 60);
  if (seconds >= 3600) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  if (seconds >= 60) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (ms === 0) return "0 ms";
  return scaled(ms, [
    [1e3, "s"],
    [1, "ms"],
    [1e-3, "µs"],
    [1e-6, "ns"],
  ]);
}

/** An energy given in joules: "1.23 mJ". */
export function joules(j: number): string {
  if (j === 0) return "0 J";
  return scaled(j, [
    [1, "J"],
    [1e-3, "mJ"],
    [1e-6, "µJ"],
    [1e-9, "nJ"],
  ]);
}

/** A factor: "3.91×", "12.0×". */
export function times(factor: number): string {
  return `${significant(factor)}×`;
}

/** A share of 0 to 1 in per cent, two decimals at most: "91.73 %". */
export function percent(share: number): string {
  return Number.isFinite(share) ? `${Number((share * 100).toFixed(2))} %` : "–";
}

/** A metric's value: per cent where the unit says so, otherwise four digits and the unit. */
export function metricValue(value: number, unit?: string): string {
  if (unit === "%") return Number.isFinite(value) ? `${(value * 100).toFixed(2)} %` : "–";
  return unit ? `${significant(value, 4)} ${unit}` : significant(value, 4);
}

/** A difference of two values of a metric, with its sign: "-0.21 points" of shares, otherwise in the metric's unit. */
export function metricDifference(difference: number, unit?: string): string {
  if (!Number.isFinite(difference)) return "–";
  const sign = difference > 0 ? "+" : "";
  if (unit !== "%") return `${sign}${significant(difference)}${unit ? ` ${unit}` : ""}`;
  const points = (difference * 100).toFixed(2);
  return Number(points) === 0 ? "0.00 points" : `${sign}${points} points`;
}

/** A p-value: "p = 0.03", "p < 0.001". */
export function pValue(p: number): string {
  return p < 0.001 ? "p < 0.001" : `p = ${significant(p, p < 0.1 ? 1 : 2)}`;
}

/** A name at most `limit` characters long, its middle replaced by an ellipsis: ends of layer names tell the most. */
export function shorten(name: string, limit: number): string {
  const characters = [...name];
  if (characters.length <= limit) return name;
  const head = Math.floor((limit - 1) * 0.4);
  return `${characters.slice(0, head).join("")}…${characters.slice(characters.length - (limit - 1 - head)).join("")}`;
}

/** A change of size or time in words: "3.91× smaller"; `words` name the two directions. */
export function ratioInWords(after: number, before: number, words: readonly [less: string, more: string]): string {
  if (!(after > 0 && before > 0)) return "unknown";
  const factor = before / after;
  if (Math.abs(factor - 1) < 0.005) return "the same";
  return factor > 1 ? `${times(factor)} ${words[0]}` : `${times(1 / factor)} ${words[1]}`;
}
