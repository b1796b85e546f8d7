import { expect, test } from "vitest";
import packageFile from "../package.json" with { type: "json" };
import { commands } from "../src/cli/commands.ts";
import { cliReference } from "../src/cli/reference.ts";
import { techniqueSummaries } from "../src/cli/summaries.ts";
import { techniques } from "../src/techniques/index.ts";
import { version } from "../src/version.ts";

test("docs/cli.md is current", async () => {
  await expect(await cliReference()).toMatchFileSnapshot("../docs/cli.md");
});

test("the summaries that the help prints are the techniques' own", () => {
  const own = Object.values(techniques).map(({ name, summary }) => [name, summary]);
  expect(Object.entries(techniqueSummaries)).toEqual(own);
});

test("no command has two flags of one name", async () => {
  // commander refuses a second flag of the same name when it is added
  for (const { load } of commands) expect(await load()).toHaveProperty("define");
  await expect(cliReference()).resolves.toContain("### compress");
});

test("the version is that of package.json", () => {
  expect(version).toBe(packageFile.version);
});
