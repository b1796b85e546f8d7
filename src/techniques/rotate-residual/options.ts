import { z } from "zod";

/** Options of rotate-residual. */
export const rotateResidualOptions = z.object({
  tied: z
    .enum(["product", "copy"])
    .default("product")
    .describe(
      "an embedding that is also the output layer; product: stays as it is, and small products behind the lookup and in front of the output layer rotate there and back; copy: the output layer gets a table of its own",
    ),
});
