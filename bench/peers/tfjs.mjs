/*
 * Training steps of ResNet-20 in TensorFlow.js on its WebAssembly backend, for training-speed.ts.
 *
 * That backend has no kernel for the gradient of a convolution's filter. Where the framework's own gradient fails for that,
 * the filter's is written as a convolution with batch and channels swapped, which the backend does have. Running
 * averages of the batch normalization are left out.
 */
import { dirname } from "node:path";
import { blocks, labels, noise, resolvePeer, serve, task } from "./steps.mjs";

const { batch, options, training } = task;

/** Padding of "same" in TensorFlow: the odd row comes last. */
function samePads(size, kernel, stride) {
  const total = Math.max(0, (Math.ceil(size / stride) - 1) * stride + kernel - size);
  return [Math.floor(total / 2), Math.ceil(total / 2)];
}

/** A 3x3 convolution over [batch, height, width, channels] whose gradients are convolutions. */
function convolution(tf, stride) {
  return tf.customGrad((x, w, save) => {
    save([x, w]);
    return {
      value: tf.conv2d(x, w, stride, "same"),
      gradFunc: (dy, [x, w]) => {
        const pads = samePads(x.shape[1], 3, stride);
        const images = tf.pad(tf.transpose(x, [3, 1, 2, 0]), [[0, 0], pads, pads, [0, 0]]);
        const filters = tf.transpose(dy, [1, 2, 0, 3]);
        const dw = tf.conv2d(images, filters, 1, "valid", "NHWC", stride);
        return [tf.conv2dTranspose(dy, w, x.shape, stride, "same"), tf.transpose(dw, [1, 2, 0, 3])];
      },
    };
  });
}

/** The network as a function of images, with its weights made on the way. */
function network(tf, conv) {
  const weights = [];
  const weight = (shape, deviation) => {
    const length = shape.reduce((a, b) => a * b, 1);
    const made = tf.variable(tf.tensor(noise(length, deviation), shape));
    weights.push(made);
    return made;
  };
  const unit = (from, to, stride) => {
    const w = weight([3, 3, from, to], Math.sqrt(2 / (9 * from)));
    const [scale, bias] = [weight([to], 1), weight([to], 0.1)];
    return (x) => {
      const y = conv(x, w, stride);
      const { mean, variance } = tf.moments(y, [0, 1, 2]);
      return tf.batchNorm(y, mean, variance, bias, scale, 1e-5);
    };
  };
  const stem = unit(3, 16, 1);
  const body = blocks.map(({ from, to, stride }) => {
    const [first, second] = [unit(from, to, stride), unit(to, to, 1)];
    const [before, after] = [Math.floor((to - from) / 2), Math.ceil((to - from) / 2)];
    // pooling by one pixel: a slice with steps has no gradient there
    return (x) => {
      const half = stride === 1 ? x : tf.avgPool(x, 1, stride, "valid");
      const shortcut =
        stride === 1
          ? x
          : tf.pad(half, [
              [0, 0],
              [0, 0],
              [0, 0],
              [before, after],
            ]);
      return tf.relu(tf.add(second(tf.relu(first(x))), shortcut));
    };
  });
  const [matrix, offset] = [weight([64, options.classes], 0.1), weight([options.classes], 0)];
  const forward = (x) => {
    const pooled = tf.mean(
      body.reduce((y, block) => block(y), tf.relu(stem(x))),
      [1, 2],
    );
    return tf.add(tf.matMul(pooled, matrix), offset);
  };
  return { weights, forward };
}

function stepOf(tf, conv) {
  const { weights, forward } = network(tf, conv);
  const shape = [batch, options.size, options.size, 3];
  const images = tf.tensor(noise(batch * options.size ** 2 * 3), shape);
  const target = tf.tensor(labels(batch, options.classes), [batch, options.classes]);
  const optimizer = tf.train.momentum(training.rate, training.momentum, training.nesterov);
  const loss = () => {
    const logits = forward(images);
    const shifted = tf.sub(logits, tf.max(logits, 1, true));
    const log = tf.sub(shifted, tf.log(tf.sum(tf.exp(shifted), 1, true)));
    return tf.neg(tf.mean(tf.sum(tf.mul(target, log), 1)));
  };
  return async () => {
    const value = tf.tidy(() => {
      const { value, grads } = tf.variableGrads(loss, weights);
      for (const { name, shape } of weights) {
        if (shape.length > 1) grads[name] = tf.add(grads[name], tf.mul(weightNamed(weights, name), training.decay));
      }
      optimizer.applyGradients(grads);
      return value;
    });
    const [number] = await value.data();
    value.dispose();
    return number;
  };
}

const weightNamed = (weights, name) => weights.find((weight) => weight.name === name);

await serve(async () => {
  const tf = (await import(resolvePeer("@tensorflow/tfjs"))).default;
  const wasm = await import(resolvePeer("@tensorflow/tfjs-backend-wasm"));
  wasm.setWasmPaths(`${dirname(resolvePeer("@tensorflow/tfjs-backend-wasm/package.json"))}/dist/`);
  await tf.setBackend("wasm");
  await tf.ready();
  const name = `TensorFlow.js ${tf.version.tfjs}, backend ${tf.getBackend()}, ${wasm.getThreadsCount()} threads`;
  const own = stepOf(tf, (x, w, stride) => tf.conv2d(x, w, stride, "same"));
  try {
    await own();
    return { name, step: own };
  } catch (error) {
    const made = { 1: convolution(tf, 1), 2: convolution(tf, 2) };
    const step = stepOf(tf, (x, w, stride) => made[stride](x, w));
    return { name: `${name}; its own gradient fails: ${error.message.split("\n")[0]}`, step };
  }
});
