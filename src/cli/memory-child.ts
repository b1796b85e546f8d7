import { syntheticFeeds } from "../data/synthetic.ts";
import { load, memory, runtime } from "../platform/node.ts";
import { random } from "../random.ts";

/*
 * Run as a process of its own by memory.ts: opens the model it is given, runs it twice on made-up samples, and prints by
 * how many bytes that raised its resident memory at the peak.
 */

const [path = "", provider = "cpu", threads = "1"] = process.argv.slice(2);
const graph = await load(path);
const engine = await runtime({ provider, threads: Number(threads) });
const feeds = syntheticFeeds(graph, random(0));
const before = memory().resident;
const session = await engine.open(graph);
for (let run = 0; run < 2; run++) await session.run(feeds);
process.stdout.write(`${Math.max(0, memory().peak - before)}\n`);
