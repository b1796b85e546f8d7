import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { load, runtime } from "../../src/platform/node.ts";
import { launch, testBrowser } from "../../test/web/page.ts";

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const digits = here("../digits/model.onnx");
const site = mkdtempSync(join(tmpdir(), "pare-site-"));
const types: Readonly<Record<string, string>> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
};
let server: Server;
let browser: Browser | undefined;

beforeAll(async () => {
  await promisify(execFile)(process.execPath, ["--import", "tsx", here("build.ts"), site]);
  server = createServer(({ url }, response) => {
    const path = url === "/" ? "/index.html" : url!;
    const found = existsSync(join(site, path));
    response.writeHead(found ? 200 : 404, { "content-type": types[extname(path)] ?? "text/plain" });
    response.end(found ? readFileSync(join(site, path)) : "");
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
}, 60_000);

afterAll(async () => {
  await browser?.close();
  server?.close();
  rmSync(site, { recursive: true });
});

test("the site is made of static files", () => {
  for (const name of ["index.html", "page.js", "ort/ort-wasm-simd-threaded.mjs", "ort/ort-wasm-simd-threaded.wasm"]) {
    expect(statSync(join(site, name)).size).toBeGreaterThan(0);
  }
  expect(readFileSync(join(site, "index.html"), "utf8")).toContain('src="page.js"');
});

test.runIf(testBrowser)(
  "a model is picked, quantized and downloaded; a damaged one is refused with a message",
  async () => {
    browser = await launch();
    const page = await browser.newPage();
    const failures: string[] = [];
    page.on("pageerror", (error) => failures.push(String(error)));
    await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    await page.waitForSelector("#model:enabled");
    await page.setInputFiles("#model", digits);
    await page.waitForSelector("#download:not([hidden])", { timeout: 30_000 });
    const text = (await page.textContent("#result")) ?? "";
    expect(text).toMatch(new RegExp(`^${statSync(digits).size} bytes -> \\d+ bytes\nleft as it was: conv0, `));

    const waiting = page.waitForEvent("download");
    await page.click("#download");
    const download = await waiting;
    expect(download.suggestedFilename()).toBe("model.4-bit.onnx");
    const path = join(site, "downloaded.onnx");
    await download.saveAs(path);
    expect(statSync(path).size).toBeLessThan(statSync(digits).size / 5);
    const session = await (await runtime({ threads: 1 })).open(await load(path));
    expect(session.outputs.map(({ name }) => name)).toEqual(["logits"]);
    await session.release();

    const damaged = join(site, "damaged.onnx");
    writeFileSync(damaged, readFileSync(digits).subarray(0, 1000));
    await page.setInputFiles("#model", damaged);
    await page.waitForFunction(() => /damaged or not ONNX/.test(document.getElementById("result")?.textContent ?? ""));
    expect(await page.isVisible("#download")).toBe(false);
    expect(failures).toEqual([]);
  },
  60_000,
);
