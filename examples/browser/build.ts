/* Puts the page together in a folder that any web server can serve: `npx tsx examples/browser/build.ts site`. */
import { copyFileSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const site = process.argv[2] ?? "site";
const ort = dirname(createRequire(import.meta.url).resolve("onnxruntime-web"));

mkdirSync(join(site, "ort"), { recursive: true });
await build({
  entryPoints: [here("page.ts")],
  outfile: join(site, "page.js"),
  bundle: true,
  minify: true,
  format: "esm",
  platform: "browser",
  logLevel: "warning",
});
copyFileSync(here("index.html"), join(site, "index.html"));
for (const file of ["ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"]) {
  copyFileSync(join(ort, file), join(site, "ort", file));
}
