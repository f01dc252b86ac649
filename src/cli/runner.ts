/**
 * Whatever can run a network under one interface: an engine on a target, or another runtime (peers.ts). So bench and compare treat
 * all alike, and nothing is allocated or awaited in `run` that the runtime itself does not.
 */
import type { Tensor, TensorType } from '../core/tensor.ts';

export interface NamedType extends TensorType {
  readonly name: string;
}

export interface Runner {
  readonly name: string;
  readonly inputs: readonly NamedType[];
  readonly threads: number;
  setInputs(inputs: ReadonlyMap<string, Tensor>): void | Promise<void>;
  /** One inference over the inputs set last. */
  run(): void | Promise<void>;
  /** Where the runtime is another process: one inference, and the milliseconds that it measured itself, without the way there. */
  timeItself?(): Promise<number>;
  /** Copies of the outputs of the last run, by name, in the model's order. */
  outputs(): ReadonlyMap<string, Tensor>;
  dispose(): void | Promise<void>;
}
