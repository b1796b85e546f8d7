/** JSON.stringify's replacer: bytes as base64, which both Node and browsers have. */
export function packed(_: string, value: unknown): unknown {
  if (!(value instanceof Uint8Array)) return value;
  let text = "";
  for (let at = 0; at < value.length; at += 8192) text += String.fromCharCode(...value.subarray(at, at + 8192));
  return { base64: btoa(text) };
}

/** JSON.parse's reviver, the inverse of {@link packed}. */
export function unpacked(_: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || !("base64" in value)) return value;
  return Uint8Array.from(atob(value.base64 as string), (char) => char.charCodeAt(0));
}
