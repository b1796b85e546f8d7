/**
 * The techniques' names and summaries, repeated from their declarations so that `pare --help` need not import them. A
 * test holds both equal.
 */
export const techniqueSummaries: Readonly<Record<string, string>> = {
  simplify: "Remove what computes nothing.",
};
