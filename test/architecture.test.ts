import { readdirSync, readFileSync } from "node:fs";
import { posix, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { transform } from "esbuild";
import { describe, expect, test } from "vitest";

const src = fileURLToPath(new URL("../src", import.meta.url));

/** Rows of src, the top one first: a file imports only from its own folder and from rows above. */
const rows: readonly (readonly string[])[] = [
  ["errors.ts", "options.ts", "random.ts", "version.ts"],
  ["tensor"],
  ["graph"],
  ["ops"],
  ["formats"],
  ["autodiff"],
  ["platform"],
  ["data"],
  ["metrics"],
  ["training"],
  ["analysis"],
  ["pruning"],
  ["techniques"],
  ["recipe"],
  ["report"],
  ["cli", "index.ts"],
];

const node = /^(platform\/node[\w-]*\.ts|cli\/)/;
const dom = /^platform\/web\.ts$/;

/** Globals of Node and of browsers; what both have (URL, TextDecoder, Blob, AbortSignal, performance) is free. */
const nodeGlobals = ["process", "Buffer", "require", "module", "__dirname", "__filename", "global", "setImmediate"];
const domGlobals = [
  ..."window document navigator location history localStorage sessionStorage indexedDB caches self".split(" "),
  ..."alert requestAnimationFrame HTMLElement Element Image ImageData OffscreenCanvas FileReader FileReaderSync".split(
    " ",
  ),
  ..."XMLHttpRequest Worker SharedWorker crossOriginIsolated DOMParser MutationObserver customElements".split(" "),
];

interface SourceFile {
  readonly path: string;
  readonly text: string;
}

const files: SourceFile[] = readdirSync(src, { recursive: true, encoding: "utf8" })
  .map((path) => path.split(sep).join("/"))
  .filter((path) => path.endsWith(".ts") && !path.endsWith(".test.ts"))
  .map((path) => ({ path, text: readFileSync(`${src}/${path}`, "utf8") }));

/** Module names that a file imports, types included. */
function importsOf({ text }: SourceFile): string[] {
  const found = text.matchAll(
    /^(?:(?:import|export)\s+(?:type\s+)?(?:[\w*]+(?:\s+as\s+\w+)?\s*,?\s*)?(?:\{[^}]*\}\s*)?from\s+|import\s+)"([^"]+)"|\bimport\(\s*"([^"]+)"\s*\)/gm,
  );
  return [...found].map(([, fixed, dynamic]) => fixed ?? dynamic!);
}

function rowOf(path: string): number {
  const [top = ""] = path.split("/");
  return rows.findIndex((row) => row.includes(top));
}

/** The folder under src; the leaf helpers count as one. */
function folderOf(path: string): string {
  return rowOf(path) === 0 ? "leaf" : path.split("/")[0]!;
}

describe("architecture", () => {
  test("every file has a row", () => {
    expect(files.length).toBeGreaterThan(20);
    expect(files.filter(({ path }) => rowOf(path) < 0).map(({ path }) => path)).toEqual([]);
  });

  test("imports point to the own folder or to a row above", () => {
    const wrong = files.flatMap((file) =>
      importsOf(file)
        .filter((name) => name.startsWith("."))
        .map((name) => posix.normalize(posix.join(posix.dirname(file.path), name)))
        .filter((target) => folderOf(target) !== folderOf(file.path) && rowOf(target) >= rowOf(file.path))
        .map((target) => `${file.path} imports ${target}`),
    );
    expect(wrong).toEqual([]);
  });

  test("relative imports stay inside src and name files with their extension", () => {
    const known = new Set(files.map(({ path }) => path));
    const wrong = files.flatMap((file) =>
      importsOf(file)
        .filter((name) => name.startsWith("."))
        .filter((name) => !known.has(posix.normalize(posix.join(posix.dirname(file.path), name))))
        .map((name) => `${file.path} imports ${name}`),
    );
    expect(wrong).toEqual([]);
  });

  test("Node's modules and onnxruntime-node are imported only where Node is", () => {
    const wrong = files
      .filter(({ path }) => !node.test(path))
      .flatMap((file) =>
        importsOf(file)
          .filter((name) => name.startsWith("node:") || name.startsWith("onnxruntime-node"))
          .map((name) => `${file.path} imports ${name}`),
      );
    expect(wrong).toEqual([]);
  });

  test("globals of Node and of browsers are used only where those are", async () => {
    const wrong = await Promise.all(
      files.map(async ({ path, text }) => {
        const banned = [...(node.test(path) ? [] : nodeGlobals), ...(dom.test(path) ? [] : domGlobals)];
        // esbuild replaces a name only where it is the global, not where the file declares its own
        const names = banned.flatMap((name) => [name, `globalThis.${name}`]);
        const define = Object.fromEntries(names.map((name) => [name, `BANNED_${name.replace("globalThis.", "")}`]));
        const { code } = await transform(text, { loader: "ts", define });
        return [...new Set(code.match(/BANNED_\w+/g))].map((name) => `${path} uses ${name.slice(7)}`);
      }),
    );
    expect(wrong.flat()).toEqual([]);
  });

  test("the check itself sees imports and globals", async () => {
    const text = `import type { A } from "../a.ts";\nexport {\n  b,\n} from "./b.ts";\nimport "c";\nconst d = await import("d");`;
    expect(importsOf({ path: "x.ts", text })).toEqual(["../a.ts", "./b.ts", "c", "d"]);
    const define = { process: "BANNED_process", "globalThis.process": "BANNED_process" };
    const own = await transform("const f = (process: number) => process", { loader: "ts", define });
    expect(own.code).not.toContain("BANNED");
    for (const use of ["process.exit()", "globalThis.process.exit()", "typeof process"]) {
      expect((await transform(use, { loader: "ts", define })).code).toContain("BANNED_process");
    }
  });
});
