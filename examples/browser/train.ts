/* The page around worker.ts: starts it, and shows what it tells. */
import { side } from "../digits/render.ts";
import { draw, type Point } from "./chart.ts";
import type { Message, Reading, Request } from "./worker.ts";

const element = <T extends Element>(id: string): T => document.getElementById(id) as unknown as T;
const settings = element<HTMLFormElement>("settings");
const train = element<HTMLButtonElement>("train");
const stop = element<HTMLButtonElement>("stop");
const download = element<HTMLAnchorElement>("download");
const state = element<HTMLParagraphElement>("state");
const tiles = ["step", "loss", "accuracy", "speed"] as const;
const base = new URL(".", document.baseURI);

let worker: Worker | undefined;
let losses: Point[] = [];
let accuracies: Point[] = [];
let steps = 1;

function show(tile: (typeof tiles)[number], text: string): void {
  element(tile).textContent = text;
}

function say(text: string, failed = false): void {
  state.textContent = text;
  state.classList.toggle("failure", failed);
}

function drawCharts(): void {
  const highest = losses.reduce((most, { value }) => Math.max(most, value), 0.5);
  const top = Math.ceil(2 * highest) / 2;
  draw(element<SVGSVGElement>("loss-chart"), {
    points: losses,
    steps,
    ticks: [0, top / 2, top],
    label: (value) => `${value}`,
    dots: false,
  });
  draw(element<SVGSVGElement>("accuracy-chart"), {
    points: accuracies,
    steps,
    ticks: [0, 0.25, 0.5, 0.75, 1],
    label: (value) => `${100 * value} %`,
    dots: true,
  });
}

function showReadings(readings: readonly Reading[]): void {
  const items = readings.map(({ pixels, label, read }) => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = side;
    const image = new ImageData(side, side);
    for (const [i, ink] of pixels.entries()) image.data.set([255 - ink, 255 - ink, 255 - ink, 255], 4 * i);
    canvas.getContext("2d")?.putImageData(image, 0, 0);
    const item = document.createElement("li");
    const text = document.createElement("div");
    text.textContent = read === label ? `${read}` : `${read}, is ${label}`;
    text.classList.toggle("wrong", read !== label);
    item.append(canvas, text);
    return item;
  });
  element("digits").replaceChildren(...items);
  element<HTMLElement>("readings").hidden = false;
}

function finish(): void {
  worker?.terminate();
  worker = undefined;
  train.disabled = false;
  stop.disabled = true;
}

function hear(message: Message): void {
  if (message.kind === "state") say(message.text);
  if (message.kind === "step") {
    steps = message.steps;
    say("Training …");
    show("step", `${message.step} / ${steps}`);
    show("speed", message.samplesPerSecond.toFixed(0));
  }
  if (message.kind === "loss") {
    losses.push({ step: message.step, value: message.loss });
    show("loss", message.loss.toPrecision(3));
  }
  if (message.kind === "score") {
    accuracies.push({ step: message.step, value: message.accuracy });
    show("accuracy", `${(100 * message.accuracy).toFixed(1)} %`);
  }
  if (message.kind === "done") {
    URL.revokeObjectURL(download.href);
    download.href = URL.createObjectURL(message.model);
    download.hidden = false;
    showReadings(message.readings);
    say("Done. The model can be downloaded, and made smaller on the page below.");
    finish();
  }
  if (message.kind === "failure") {
    say(message.text, true);
    finish();
  }
  drawCharts();
}

settings.addEventListener("submit", (event) => {
  event.preventDefault();
  [losses, accuracies, steps] = [[], [], 1];
  download.hidden = true;
  element<HTMLElement>("readings").hidden = true;
  for (const tile of tiles) show(tile, "–");
  train.disabled = true;
  stop.disabled = false;
  worker = new Worker(new URL("worker.js", base), { type: "module" });
  worker.addEventListener("message", ({ data }: MessageEvent<Message>) => hear(data));
  worker.addEventListener("error", ({ message }) => {
    const cause = message || "worker.js can't be loaded";
    hear({
      kind: "failure",
      text: `The worker failed: ${cause}. Are all files of the site there, and the browser a recent one?`,
    });
  });
  const chosen = (id: string): number => Number(element<HTMLSelectElement>(id).value);
  const request: Request = {
    pictures: chosen("pictures"),
    epochs: chosen("epochs"),
    wasmPaths: new URL("ort/", base).href,
  };
  worker.postMessage(request);
});

stop.addEventListener("click", () => {
  finish();
  say("Stopped.");
});

drawCharts();
