// ONNX Runtime by itself: loads it, and with arguments opens a model and runs it once on zeros of one sample's size.
//   node runtime-alone.mjs [MODEL INPUT TYPE DIM,DIM,...]
import { env, InferenceSession, Tensor } from "onnxruntime-node";

process.env.ORT_DISABLE_TELEMETRY ??= "1"; // no usage data to its maker; read at the first session
env.logLevel = "fatal";
const [model, input, type, dims] = process.argv.slice(2);
if (model) {
  const shape = dims.split(",").map(Number);
  const size = shape.reduce((a, b) => a * b, 1);
  const session = await InferenceSession.create(model);
  const zeros = type === "int64" ? new BigInt64Array(size) : new Float32Array(size);
  await session.run({ [input]: new Tensor(type, zeros, shape) });
}
