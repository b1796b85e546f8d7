import { existsSync, readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { type Browser, chromium, type Page } from "playwright-core";
import type { Runtime } from "../../src/platform/runtime.ts";
import { packed, unpacked } from "./wire.ts";

/** What a module of test/web/pages exports by default: runs alike in Node and in a page. */
export type PageFunction<Args, Result> = (runtime: Runtime, args: Args) => Promise<Result>;

const here = dirname(fileURLToPath(import.meta.url));
const ortFolder = dirname(createRequire(import.meta.url).resolve("onnxruntime-web"));
const executablePath = process.env.PARE_CHROMIUM || "/usr/bin/chromium";
const flags = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** How to get the browser. */
export const chromiumHint = "install Chromium (apt-get install chromium) or set PARE_CHROMIUM to its path";

/** Whether there is a browser to run pages in. */
export const chromiumExists = existsSync(executablePath);

let browser: Promise<Browser> | undefined;
let server: Promise<{ server: Server; base: string }> | undefined;
const pages = new Map<string, Promise<OpenPage>>();

/**
 * Calls a page function in headless Chromium, with pare's web runtime on WASM (two threads).
 *
 * @param name a module of test/web/pages, without ".ts"
 * @param args, and the result: JSON values and Uint8Arrays
 * @throws Error where Chromium is missing (the tests must not pass without it), or with what the page threw
 */
export async function inChromium<Args, Result>(name: string, args: Args): Promise<Result> {
  const { page, said } = await (pages.get(name) ?? opened(name));
  try {
    const result = await page.evaluate(`pareTest(${JSON.stringify(args, packed)})`);
    return JSON.parse(result as string, unpacked) as Result;
  } catch (error) {
    throw new Error(`${name} in Chromium: ${[String(error), ...said].join("\n")}`, { cause: error });
  }
}

/** Ends the browser and the server that {@link inChromium} has started. */
export async function closeChromium(): Promise<void> {
  await (await browser)?.close();
  (await server)?.server.close();
}

/** A page of the browser, and the errors it has printed. */
interface OpenPage {
  readonly page: Page;
  readonly said: string[];
}

/** Opens the page of a module, once: ONNX Runtime is loaded and compiled a single time. */
function opened(name: string): Promise<OpenPage> {
  const open = async (): Promise<OpenPage> => {
    browser ??= launch();
    server ??= serve();
    const page = await (await browser).newPage();
    const said: string[] = [];
    page.on("pageerror", (error) => said.push(String(error)));
    page.on("console", (message) => message.type() === "error" && said.push(message.text()));
    await page.goto(`${(await server).base}/?${name}`);
    await page.waitForFunction("typeof pareTest === 'function'", undefined, { timeout: 30_000 }).catch((error) => {
      throw new Error(`${name} in Chromium: ${[String(error), ...said].join("\n")}`, { cause: error });
    });
    return { page, said };
  };
  const made = open();
  pages.set(name, made);
  return made;
}

/**
 * Starts headless Chromium.
 *
 * @throws Error where there is none
 */
export async function launch(): Promise<Browser> {
  if (!chromiumExists) {
    throw new Error(`no Chromium at ${executablePath}: ${chromiumHint}`);
  }
  return chromium.launch({ executablePath, headless: true, args: flags });
}

/** Serves the page, its script and ONNX Runtime's files, isolated from other origins as threads demand. */
async function serve(): Promise<{ server: Server; base: string }> {
  const made = createServer(async (request, response) => {
    const url = new URL(request.url ?? "", "http://localhost");
    const [type, body] = await answer(url).catch((error: unknown) => {
      return ["text/javascript", `throw new Error(${JSON.stringify(String(error))})`] as const;
    });
    response.writeHead(body === undefined ? 404 : 200, {
      "content-type": type,
      "cross-origin-opener-policy": "same-origin",
      "cross-origin-embedder-policy": "require-corp",
    });
    response.end(body);
  });
  await new Promise<void>((done) => made.listen(0, "127.0.0.1", done));
  return { server: made, base: `http://127.0.0.1:${(made.address() as AddressInfo).port}` };
}

async function answer(url: URL): Promise<readonly [type: string, body: string | Uint8Array | undefined]> {
  const script = /^\/(\w[\w-]*)\.js$/.exec(url.pathname)?.[1];
  if (script) return ["text/javascript", await bundle(script)];
  const file = /^\/ort\/([\w.-]+\.(mjs|wasm))$/.exec(url.pathname);
  if (file) {
    const type = file[2] === "wasm" ? "application/wasm" : "text/javascript";
    return [type, readFileSync(join(ortFolder, file[1]!))];
  }
  if (url.pathname !== "/") return ["text/plain", undefined];
  const html = `<!doctype html><script type="module" src="/${url.search.slice(1)}.js"></script>`;
  return ["text/html", html];
}

async function bundle(name: string): Promise<string> {
  const contents = `
    import run from "./pages/${name}.ts";
    import { packed, unpacked } from "./wire.ts";
    import { runtime } from "../../src/platform/web.ts";
    const ort = await runtime({ wasmPaths: "/ort/", threads: 2 });
    globalThis.pareTest = async (args) => {
      const given = JSON.parse(JSON.stringify(args), unpacked);
      return JSON.stringify(await run(ort, given), packed);
    };`;
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: here, loader: "ts" },
    bundle: true,
    format: "esm",
    platform: "browser",
    write: false,
    logLevel: "silent",
  });
  return outputFiles[0]!.text;
}
