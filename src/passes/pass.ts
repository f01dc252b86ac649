/**
 * What a pass is: one function from a graph to an equal graph, and its row in the pipeline's table.
 */
import type { DType } from '../core/dtype.ts';
import type { Graph } from '../graph/ir.ts';
import type { Op } from '../ops/op.ts';

export interface PassContext {
  readonly ops: ReadonlyMap<string, Op>;
  /** Dtypes that the target computes in. */
  readonly computes: ReadonlySet<DType>;
  /** The target multiplies words, not bytes: it has nothing of sums of bytes. */
  readonly widensBytes?: boolean;
  /** Products of operands that lie side by side in runs of so many channels are much faster than others. Undefined: no matter. */
  readonly channelRun?: number;
  readonly onWarning: (message: string) => void;
}

export interface Pass {
  readonly name: string;
  /** Returns the graph itself where it found nothing to do. */
  readonly run: (graph: Graph, ctx: PassContext) => Graph;
  /** Names of passes that must have run before. */
  readonly after: readonly string[];
  readonly why: string;
  /** Runs again until nothing changes. The other passes leave nothing of their kind behind in one walk. */
  readonly repeat?: boolean;
}
