/*
 * Training steps of ResNet-20 in jax-js on its WebAssembly backend, for training-speed.ts: one jitted function from
 * weights and velocities to new ones. Every use of an array but the last takes a reference (`ref`): functions there own
 * their arguments. Running averages of the batch normalization are left out.
 */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { blocks, labels, noise, resolvePeer, serve, task } from "./steps.mjs";

const { batch, options, training } = task;
const entry = resolvePeer("@jax-js/jax").replace(/index\.cjs$/, "index.js");
const { version } = JSON.parse(readFileSync(join(dirname(dirname(entry)), "package.json"), "utf8"));
const {
  blockUntilReady,
  defaultDevice,
  init,
  jit,
  lax,
  nn,
  numpy: np,
  valueAndGrad,
} = await import(pathToFileURL(entry));

function makeWeights() {
  const weights = {};
  const tensor = (name, shape, deviation) => {
    const length = shape.reduce((a, b) => a * b, 1);
    weights[name] = np.array(noise(length, deviation)).reshape(shape);
  };
  const unit = (name, from, to) => {
    tensor(`${name}.weight`, [to, from, 3, 3], Math.sqrt(2 / (9 * from)));
    tensor(`${name}.scale`, [1, to, 1, 1], 1);
    tensor(`${name}.bias`, [1, to, 1, 1], 0.1);
  };
  unit("stem", 3, 16);
  for (const { name, from, to } of blocks) {
    unit(`${name}.1`, from, to);
    unit(`${name}.2`, to, to);
  }
  tensor("fc.weight", [64, options.classes], 0.1);
  tensor("fc.bias", [options.classes], 0);
  return weights;
}

function normalized(x, scale, bias) {
  const over = [0, 2, 3];
  const centred = x.ref.sub(np.mean(x, over, { keepdims: true }));
  const variance = np.mean(centred.ref.mul(centred.ref), over, { keepdims: true });
  return centred.mul(scale.div(np.sqrt(variance.add(1e-5)))).add(bias);
}

function unit(w, name, x, stride) {
  const pads = [
    [1, 1],
    [1, 1],
  ];
  const y = lax.convGeneralDilated(x, w[`${name}.weight`], [stride, stride], pads);
  return normalized(y, w[`${name}.scale`], w[`${name}.bias`]);
}

/** Every second pixel: slices with steps do not exist here. */
function halved(x) {
  const [n, channels, height, width] = x.shape;
  return x.reshape([n, channels, height / 2, 2, width / 2, 2]).slice([], [], [], 0, [], 0);
}

function block(w, { name, from, to, stride }, x) {
  const inner = unit(w, `${name}.2`, nn.relu(unit(w, `${name}.1`, x.ref, stride)), 1);
  const more = [Math.floor((to - from) / 2), Math.ceil((to - from) / 2)];
  const shortcut = stride === 1 ? x : np.pad(halved(x), [[0, 0], more, [0, 0], [0, 0]]);
  return nn.relu(inner.add(shortcut));
}

function loss(w, images, target) {
  let x = nn.relu(unit(w, "stem", images, 1));
  for (const each of blocks) x = block(w, each, x);
  const logits = np.matmul(np.mean(x, [2, 3]), w["fc.weight"]).add(w["fc.bias"]);
  return np.mean(np.sum(nn.logSoftmax(logits, 1).mul(target), 1)).neg();
}

/** Stochastic gradient descent with Nesterov's momentum. */
function update(weights, velocities, images, target) {
  const refs = Object.fromEntries(Object.entries(weights).map(([name, w]) => [name, w.ref]));
  const [value, gradients] = valueAndGrad(loss)(refs, images, target);
  const [moved, speeds] = [{}, {}];
  for (const [name, w] of Object.entries(weights)) {
    const g = name.endsWith("weight") ? gradients[name].add(w.ref.mul(training.decay)) : gradients[name];
    const v = velocities[name].mul(training.momentum).add(g.ref);
    speeds[name] = v.ref;
    moved[name] = w.sub(g.add(v.mul(training.momentum)).mul(training.rate));
  }
  return [value, moved, speeds];
}

await serve(async () => {
  await init("wasm");
  defaultDevice("wasm");
  const images = np.array(noise(batch * 3 * options.size ** 2)).reshape([batch, 3, options.size, options.size]);
  const target = np.array(labels(batch, options.classes)).reshape([batch, options.classes]);
  let weights = makeWeights();
  let velocities = Object.fromEntries(Object.entries(weights).map(([name, w]) => [name, np.zeros(w.shape)]));
  const jitted = jit(update);
  const step = async () => {
    const [value, moved, speeds] = jitted(weights, velocities, images.ref, target.ref);
    [weights, velocities] = await blockUntilReady([moved, speeds]);
    const [number] = await value.data();
    return number;
  };
  return { name: `jax-js ${version}, ${defaultDevice()}`, step };
});
