import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { posix } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
const snapshot = `${root}test/api.txt`;

interface Manifest {
  readonly exports: Readonly<Record<string, string | { readonly types: string; readonly default: string }>>;
}

const { exports } = JSON.parse(readFileSync(`${root}package.json`, "utf8")) as Manifest;

/** Source files of the public subpaths. */
const subpaths = Object.entries(exports).flatMap(([subpath, target]) =>
  typeof target === "string"
    ? []
    : [[posix.join("pare", subpath), target.default.replace("./dist/", "src/").replace(/\.js$/, ".ts")] as const],
);

const declaration =
  /^export (?:declare )?(?:abstract )?(?:async )?(function\*?|class|const|let|interface|type) (\w+)/gm;
const list = /^export (type )?\{([^}]*)\}/gm;
const star = /^export (type )?\* (?:as (\w+) )?from "([^"]+)"/gm;

/** Names that a module exports, and whether each is a type. */
function exported(file: string): Map<string, "type" | "value"> {
  const text = readFileSync(`${root}${file}`, "utf8");
  const found = new Map<string, "type" | "value">();
  for (const [, kind, name] of text.matchAll(declaration)) {
    found.set(name!, kind === "interface" || kind === "type" ? "type" : "value");
  }
  for (const [, type, names] of text.matchAll(list)) {
    for (const item of names!.split(",").map((name) => name.trim())) {
      if (item === "") continue;
      const name = item.split(" ").at(-1)!;
      found.set(name, type || item.startsWith("type ") ? "type" : "value");
    }
  }
  for (const [, type, as, from] of text.matchAll(star)) {
    if (as) found.set(as, type ? "type" : "value");
    else if (from!.startsWith(".")) {
      const inner = exported(posix.join(posix.dirname(file), from!));
      for (const [name, kind] of inner) if (!found.has(name)) found.set(name, type ? "type" : kind);
    }
  }
  return found;
}

function describeApi(): string {
  const parts = subpaths.map(([subpath, file]) => {
    const names = [...exported(file)].map(([name, kind]) => (kind === "type" ? `${name} (type)` : name));
    return [subpath, ...names.sort().map((name) => `  ${name}`)].join("\n");
  });
  return `${parts.join("\n\n")}\n`;
}

describe("public interface", () => {
  test("every subpath has its source file", () => {
    expect(subpaths.filter(([, file]) => !existsSync(`${root}${file}`))).toEqual([]);
  });

  test("the names found in the source are those that the modules export", async () => {
    for (const [, file] of subpaths) {
      const values = [...exported(file)].filter(([, kind]) => kind === "value").map(([name]) => name);
      const module = (await import(`${root}${file}`)) as object;
      expect(values.sort()).toEqual(Object.keys(module).sort());
    }
  });

  test("is the one in test/api.txt (after a deliberate change: UPDATE_API=1 npm test -- test/api.test.ts)", () => {
    if (process.env.UPDATE_API) writeFileSync(snapshot, describeApi());
    expect(describeApi()).toBe(readFileSync(snapshot, "utf8"));
  });
});
