/**
 * The ordered table of graph passes, with reasons. passes/ rewrites graphs: Graph in, equal Graph out.
 *
 * Every pass is one file that exports one function; a row says why it stands where it stands, and what it must come after
 * (checked by a test). DEBUG=3 prints the graph after each; STOP_AFTER=name ends the pipeline there.
 */
import type { DType } from '../core/dtype.ts';
import type { Graph } from '../graph/ir.ts';
import type { Op } from '../ops/op.ts';

export interface PassContext {
  readonly ops: ReadonlyMap<string, Op>;
  /** Dtypes that the target computes in. */
  readonly computes: ReadonlySet<DType>;
  readonly onWarning: (message: string) => void;
}

export interface Pass {
  readonly name: string;
  readonly run: (graph: Graph, ctx: PassContext) => Graph;
  /** Names of passes that must have run before. */
  readonly after: readonly string[];
  readonly why: string;
}
