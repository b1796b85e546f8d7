/**
 * An error the user can fix: a bad file, a wrong option, data that does not fit the model.
 * The command line prints its message without a stack and exits with status 1; any other error is a bug of ours (70).
 */
export class PareError extends Error {
  override readonly name = "PareError";
}

/**
 * Throws a {@link PareError} in the house form `<who>: <what is wrong>. <what to do>.`
 *
 * @param who the function, command, file or node that refuses
 * @param what what is wrong, with the value that was got
 * @param hint what to do about it
 * @param cause the error behind it, if any
 * @throws PareError always
 */
export function fail(who: string, what: string, hint?: string, cause?: unknown): never {
  const message = `${who}: ${sentence(what)}${hint ? ` ${sentence(hint)}` : ""}`;
  throw cause === undefined ? new PareError(message) : new PareError(message, { cause });
}

function sentence(text: string): string {
  return /[.?!]$/.test(text) ? text : `${text}.`;
}

/** The message of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

// comparing names costs the product of their lengths, and files may hold names of any length
const longestName = 200;

/**
 * A sentence "Did you mean 'a' or 'b'?" naming the candidates nearest to an unknown name, or "" if none is near.
 * Nearness is the Levenshtein distance, at most a third of the name's length, or containing the name; at most three,
 * and none much farther than the nearest.
 */
export function didYouMean(name: string, candidates: Iterable<string>): string {
  if (name.length > longestName) return "";
  const limit = Math.max(2, Math.floor(name.length / 3));
  const near = [...candidates]
    .map((candidate) => ({ candidate, distance: editDistance(name.toLowerCase(), candidate.toLowerCase(), limit) }))
    .filter(({ distance, candidate }) => distance <= limit || candidate.toLowerCase().includes(name.toLowerCase()))
    .sort((a, b) => a.distance - b.distance)
    .filter(({ distance }, _, [best]) => distance <= best!.distance + 1)
    .slice(0, 3)
    .map(({ candidate }) => `'${candidate}'`);
  if (near.length === 0) return "";
  const last = near.pop();
  return `Did you mean ${near.length > 0 ? `${near.join(", ")} or ` : ""}${last}?`;
}

function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) > limit) return limit + 1;
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(substitution, previous[j]! + 1, current[j - 1]! + 1));
    }
    previous = current;
  }
  return previous[b.length]!;
}
