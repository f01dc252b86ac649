/**
 * What an architecture is: a name, the picture size it was trained on, and its definition on a Network.
 */
import type { StateDict } from '../state-dict.ts';
import type { Network } from './network.ts';

export interface Architecture {
  /** torchvision's name of it. */
  readonly name: string;
  /** Height and width of the pictures that torchvision feeds it. */
  readonly imageSize: number;
  /** From pictures [N, 3, H, W] to logits [N, classes]. */
  define(net: Network, x: string): string;
}

/** Architectures that differ in numbers only, and how to tell that weights are theirs. */
export interface Family {
  /** Keys that weights of this family have, and those of no other. */
  readonly marks: readonly string[];
  readonly members: readonly Architecture[];
  /** Renames keys that older releases of torchvision used; the same key where it is current. */
  readonly currentKey?: (key: string) => string;
  /** The size of pictures that these weights take, where they tell it. */
  readonly imageSizeOf?: (weights: StateDict) => number | undefined;
}
