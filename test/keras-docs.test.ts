import { expect, test } from "vitest";
import { activations } from "../src/formats/keras/layers/activation.ts";
import { kerasFunctions, tensorflowFunctions } from "../src/formats/keras/layers/functions.ts";
import { layerRules } from "../src/formats/keras/layers/index.ts";

const list = (names: Iterable<string>): string =>
  [...names]
    .sort()
    .map((name) => `\`${name}\``)
    .join(", ");

test("docs/keras.md is current", async () => {
  const page = `# Keras models

Wherever \`pare\` reads a model it also reads those that Keras saved: \`.h5\` files of whole models (Keras 2 and 3) and
\`.keras\` archives (Keras 3), Sequential and Functional, nested and shared layers included. Which kind a file is, is told
by its content. Reading them needs the package \`h5wasm\`: \`npm install h5wasm\`.

\`\`\`
pare convert model.h5 -o model.onnx
pare quantize-static model.keras -o small.onnx --data D
\`\`\`

- **Order of the axes.** Inside, tensors have their channels first, as ONNX wants them: kernels are rearranged, the rows of a
  Dense layer behind a Flatten are sorted, and what works element by element takes either order. What is left is one
  Transpose behind the input, which keeps the order the model was trained with (n, height, width, channels).
  \`pare convert --layout channels-first\` (\`load(path, { layout: "channels-first" })\`) gives the input its channels first, and
  no Transpose. Layers that work on the last axis of an image (LayerNormalization, as in ConvNeXt) have it moved there and
  back.
- **Names.** Nodes are named like their layers (\`inner/conv\` inside a model \`inner\`), weights \`layer/kernel\`, inputs and outputs
  like the layers that take and make them.
- **Weights** become float32. Those of an \`.h5\` file stay there until they are needed; a \`.keras\` archive is unpacked into
  memory when it is opened.
- **Training.** Layers that act in training only (dropout, noise, random augmentation) go. BatchNormalization stays a node of
  its own: \`pare simplify\` folds it.
- **Not supported**, and refused by the layer's name: Lambda and layers of one's own, text layers, masks that reach recurrent
  layers, attention or averages, cells and convolutional recurrent layers, and models without a fixed description (subclasses of
  \`Model\`). A function of \`keras.ops\` or TensorFlow that is not listed below is refused too.
- The HDF5 library works on the file in memory of its own and sees nothing else of the system. A damaged file is refused; one
  that was built to do harm may keep the library busy without end, so open strangers' files where you can interrupt.

In the browser \`load\` of \`pare/web\` takes the bytes of such a file, or its address.

How closely imported models follow Keras is measured in [benchmarks.md](benchmarks.md#keras-models).

## Pruning a Keras model while it trains

What \`tfmot.sparsity.keras.prune_low_magnitude\` does with wrappers and callbacks is one command:

\`\`\`
pare convert model.h5 --layout channels-first -o model.onnx
pare prune-weights model.onnx --data D -o pruned.onnx --epochs 10 --batch 128 \\
  --pruning-schedule polynomial --initial-sparsity 0.5 --sparsity 0.9 --begin-step 0 --end-step 2000 --frequency 100
\`\`\`

| TensorFlow Model Optimization | pare |
| --- | --- |
| \`PolynomialDecay(initial_sparsity, final_sparsity, begin_step, end_step, power, frequency)\` | \`--pruning-schedule polynomial --initial-sparsity --sparsity --begin-step --end-step --pruning-power --frequency\` |
| \`ConstantSparsity(target_sparsity, begin_step, end_step, frequency)\` | \`--pruning-schedule constant --sparsity --begin-step --end-step --frequency\` |
| wrapping single layers | \`--include\`, \`--exclude\`, \`--layer-sparsity\`; all layers: \`--ends prune --min-elements 0\` |
| \`UpdatePruningStep\` | nothing: it is part of training |
| \`PruningSummaries\` | \`--log log.jsonl\`: \`summaries\` holds the sparsity of every layer over the steps |
| \`strip_pruning\` | nothing: masks are never part of the model |

[examples/prune-keras.ts](../examples/prune-keras.ts) is the same as a program, from a \`.h5\` file to the comparison of
sizes and accuracy; [benchmarks.md](benchmarks.md) has it on a published network. More of pruning:
[pruning-weights.md](pruning-weights.md).

## Layers

${list(Object.keys(layerRules))}.

## Activations

${list(Object.keys(activations))}.

## Functions called on tensors

Operators such as \`x + 3\` and \`1 - x\` among them; of \`keras.ops\` (Keras 3): ${list(Object.keys(kerasFunctions))}.

Of TensorFlow (Keras 2): ${list(Object.keys(tensorflowFunctions))}.
`;
  await expect(page).toMatchFileSnapshot("../docs/keras.md");
});
