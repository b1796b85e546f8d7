/** What reports are printed with: bold, dim and neither. */
const styles: ReadonlySet<string> = new Set([1, 2, 22].map((code) => `\u001b[${code}m`));

/**
 * Text that a terminal shows as it is: names in a stranger's model may hold escapes that would move its cursor, write
 * its clipboard or show one text as another. Bold and dim stay.
 */
export function printable(text: string): string {
  return text.replace(/\p{Cc}\[\d+m|[\p{Cc}\p{Cs}\p{Bidi_C}]/gu, (found) =>
    found === "\t" || found === "\n" || styles.has(found) ? found : ` ${found.slice(1)}`,
  );
}
