/* Puts the pages together in a folder that any web server can serve: `npx tsx examples/browser/build.ts site`. */
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { style } from "../../src/report/style.ts";

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const site = process.argv[2] ?? "site";
const ort = dirname(createRequire(import.meta.url).resolve("onnxruntime-web"));

mkdirSync(join(site, "ort"), { recursive: true });
await build({
  entryPoints: ["quantize.ts", "train.ts", "worker.ts"].map(here),
  outdir: site,
  bundle: true,
  minify: true,
  format: "esm",
  platform: "browser",
  logLevel: "warning",
});
writeFileSync(join(site, "style.css"), style.text);
for (const file of ["index.html", "train.html", "page.css"]) copyFileSync(here(file), join(site, file));
for (const file of ["ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"]) {
  copyFileSync(join(ort, file), join(site, "ort", file));
}
