/**
 * The ordered table of graph passes, with reasons. passes/ rewrites graphs: Graph in, equal Graph out.
 *
 * Every pass is one file that exports one function; a row says why it stands where it stands, and what it must come after
 * (checked by a test). DEBUG=3 prints the graph after each; STOP_AFTER=name ends the pipeline there. What comes out is what the
 * target can lower: no operator that expands, no float dtype that it lacks, every graph output made by a node unless the model
 * itself has it otherwise.
 */
import { Bug, ModelError } from '../core/errors.ts';
import { debugLevel, knob } from '../core/knobs.ts';
import type { Graph } from '../graph/ir.ts';
import { printGraph } from '../graph/print.ts';
import { verifyGraph } from '../graph/verify.ts';
import { eliminateCommonSubexpressions } from './eliminate-common-subexpressions.ts';
import { eliminateDeadCode } from './eliminate-dead-code.ts';
import { expandOps } from './expand-ops.ts';
import { foldChannelAffine } from './fold-channel-affine.ts';
import { foldConstants } from './fold-constants.ts';
import { mergeProducts } from './merge-products.ts';
import { mergeViews } from './merge-views.ts';
import { nestConcats } from './nest-concats.ts';
import { packChannels } from './pack-channels.ts';
import type { Pass, PassContext } from './pass.ts';
import { removeNoOps } from './remove-no-ops.ts';
import { sumBytes } from './sum-bytes.ts';
import { widen } from './widen.ts';
import { widenBytes } from './widen-bytes.ts';

export const PASSES: readonly Pass[] = [
  {
    name: 'eliminate-dead-code',
    run: eliminateDeadCode,
    after: [],
    why: 'what no output needs is not worth the time of the other passes',
  },
  {
    name: 'widen',
    run: widen,
    after: [],
    why: 'before anything is computed from constants, so that what follows rounds in the wide dtype only',
  },
  {
    name: 'sum-bytes',
    run: sumBytes,
    after: ['widen'],
    why: 'what quantises and dequantises is arithmetic like any other once it is expanded',
  },
  {
    name: 'expand-ops',
    run: expandOps,
    after: ['widen', 'sum-bytes'],
    why: 'the passes below then see few and simple operators; repeats because expansions use operators that expand',
    repeat: true,
  },
  {
    name: 'widen-bytes',
    run: widenBytes,
    after: ['expand-ops'],
    why: 'quantised products expand to sums of bytes; constants among them are then widened at build time',
  },
  {
    name: 'fold-constants',
    run: foldConstants,
    after: ['expand-ops', 'widen-bytes'],
    why: 'expansions compute with constants; and the passes below ask which inputs are constant',
  },
  {
    name: 'remove-no-ops',
    run: removeNoOps,
    after: ['fold-constants', 'widen'],
    why: 'neutral elements are known once constants are folded, and widening turns casts into no-ops',
  },
  {
    name: 'merge-views',
    run: mergeViews,
    after: ['remove-no-ops'],
    why: 'views are neighbours only once nothing stands between them',
  },
  {
    name: 'fold-channel-affine',
    run: foldChannelAffine,
    after: ['expand-ops', 'fold-constants', 'remove-no-ops'],
    why: 'batch normalisation has become a product and a sum with constants, and stands right behind its convolution',
  },
  {
    name: 'merge-products',
    run: mergeProducts,
    after: ['fold-constants', 'merge-views', 'fold-channel-affine'],
    why: 'constants are known, a view that goes on is one node, and scales have gone into the matrices that are put side by side',
  },
  {
    name: 'pack-channels',
    run: packChannels,
    after: ['fold-constants', 'fold-channel-affine'],
    why: 'weights are arranged once they are final; convolutions of one input then share its arrangement as a common subexpression',
  },
  {
    name: 'eliminate-common-subexpressions',
    run: eliminateCommonSubexpressions,
    after: ['fold-channel-affine', 'merge-views', 'merge-products', 'pack-channels'],
    why: 'merging earlier would give values more readers, and folding into weights wants one; canonical nodes compare equal',
  },
  {
    name: 'nest-concats',
    run: nestConcats,
    after: ['eliminate-common-subexpressions'],
    why: 'a prefix is found by the names of its values, which are unique once equal values have become one',
  },
];

/** A repeating pass that still changes the graph after so many rounds does not end. */
const MAX_ROUNDS = 32;

export interface PipelineOptions {
  /** Name of the pass to end after; the knob STOP_AFTER where not given. */
  readonly stopAfter?: string;
  /** Runs the verifier before the first pass and after each. */
  readonly verify?: boolean;
  /** Told of the graph after each pass. */
  readonly onPass?: (pass: Pass, graph: Graph) => void;
}

/**
 * The graph after all passes. Throws ModelError `option-invalid` where stopAfter names no pass, `model-invalid` and `shape-mismatch`
 * where an operator refuses its inputs; Bug where a pass leaves a graph that does not verify.
 */
export function runPipeline(graph: Graph, ctx: PassContext, options: PipelineOptions = {}): Graph {
  const stopAfter = options.stopAfter ?? knob('STOP_AFTER');
  if (stopAfter !== '' && !PASSES.some((pass) => pass.name === stopAfter)) {
    throw new ModelError('option-invalid', `there is no graph pass "${stopAfter}"`, {
      hint: `passes: ${PASSES.map((pass) => pass.name).join(', ')}`,
    });
  }
  if (options.verify) verifyGraph(graph, ctx.ops, 'reading');
  let current = graph;
  for (const pass of PASSES) {
    current = runPass(pass, current, ctx);
    if (options.verify) verifyGraph(current, ctx.ops, pass.name);
    if (debugLevel() >= 3) console.error(`after ${pass.name}:\n${printGraph(current)}`);
    options.onPass?.(pass, current);
    if (pass.name === stopAfter) break;
  }
  return current;
}

/** Runs one pass, to its fixed point where its row says so. */
export function runPass(pass: Pass, graph: Graph, ctx: PassContext): Graph {
  let current = pass.run(graph, ctx);
  if (!pass.repeat || current === graph) return current;
  for (let round = 1; round < MAX_ROUNDS; round++) {
    const next = pass.run(current, ctx);
    if (next === current) return current;
    current = next;
  }
  throw new Bug('pass-diverges', `pass ${pass.name} still changes graph "${graph.name}" after ${MAX_ROUNDS} rounds`);
}
