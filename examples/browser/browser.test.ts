import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { load, runtime } from "../../src/platform/node.ts";
import { launch, testBrowser } from "../../test/web/page.ts";

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const digits = here("../digits/model.onnx");
const site = mkdtempSync(join(tmpdir(), "pare-site-"));
const types: Readonly<Record<string, string>> = {
  ".css": "text/css",
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

/** A page of the site, and the errors that it throws. */
async function opened(path: string): Promise<{ page: Page; failures: string[] }> {
  browser ??= await launch();
  const page = await browser.newPage();
  const failures: string[] = [];
  page.on("pageerror", (error) => failures.push(String(error)));
  await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/${path}`);
  return { page, failures };
}

test("the site is made of static files", () => {
  for (const name of ["worker.js", "ort/ort-wasm-simd-threaded.mjs", "ort/ort-wasm-simd-threaded.wasm"]) {
    expect(statSync(join(site, name)).size).toBeGreaterThan(0);
  }
  for (const page of ["index.html", "train.html"]) {
    const html = readFileSync(join(site, page), "utf8");
    const linked = [...html.matchAll(/(?:src|href)="([\w.]+)"/g)].map(([, name]) => name!);
    expect(linked.filter((name) => !existsSync(join(site, name)))).toEqual([]);
    expect(linked).toContain("style.css");
  }
});

test.runIf(testBrowser)(
  "a model is picked, quantized and downloaded; a damaged one is refused with a message",
  async () => {
    const { page, failures } = await opened("");
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

test.runIf(testBrowser)(
  "a model is trained and downloaded",
  async () => {
    const { page, failures } = await opened("train.html");
    await page.selectOption("#pictures", "300");
    await page.selectOption("#epochs", "2");
    await page.click("#train");
    await page.waitForFunction(() => /^Training/.test(document.getElementById("state")?.textContent ?? ""));
    expect(await page.isDisabled("#train")).toBe(true);
    await page.waitForSelector("#download:not([hidden])", { timeout: 150_000 });
    expect(await page.textContent("#step")).toBe("24 / 24");
    expect(Number.parseFloat((await page.textContent("#accuracy"))!)).toBeGreaterThan(40);
    expect(await page.locator("#digits canvas").count()).toBe(40);
    expect(await page.locator("#digits .wrong").count()).toBeLessThan(30);
    expect(await page.locator("#accuracy-chart circle").count()).toBe(3);

    const waiting = page.waitForEvent("download");
    await page.click("#download");
    const path = join(site, "trained.onnx");
    await (await waiting).saveAs(path);
    const session = await (await runtime({ threads: 1 })).open(await load(path));
    expect(session.outputs.map(({ name }) => name)).toEqual(["logits"]);
    await session.release();
    expect(failures).toEqual([]);
  },
  180_000,
);

test.runIf(testBrowser)(
  "training stops when asked to, and says why it can't start",
  async () => {
    const { page, failures } = await opened("train.html");
    await page.click("#train");
    await page.click("#stop");
    expect(await page.textContent("#state")).toBe("Stopped.");
    expect(await page.isEnabled("#train")).toBe(true);

    await page.context().route("**/*.wasm", (route) => route.abort());
    await page.click("#train");
    await page.waitForSelector("#state.failure");
    expect(await page.textContent("#state")).toMatch(
      /^onnxruntime-web: it can't start .*\.wasm.*Serve its \.wasm and \.mjs files/s,
    );
    expect(await page.isEnabled("#train")).toBe(true);
    expect(failures).toEqual([]);
  },
  60_000,
);
