/**
 * Runs PTX: an entry over a grid, blocks in turn, a block's warps in turn until they wait, a warp's lanes together where they stand
 * at the same instruction (the lanes that are furthest behind go first, which brings them together again after structured branches).
 *
 *     const ptx = new PtxProgram(text);
 *     const memory = new GlobalMemory();
 *     ptx.run(memory, { entry, grid: [n, 1, 1], block: [128, 1, 1], sharedBytes: 0, args: [address, 7] });
 *
 * An entry is compiled once: its code is cut at labels, branches and everything that lanes do together, and each run of lane-wise
 * instructions becomes a JavaScript function (codegen.ts). What a real machine may do late is done late: cp.async delivers at the wait.
 * `concurrent` runs all blocks side by side, for kernels that wait for other blocks, and finds where they do not wait for what they touch.
 */
import { Codegen, classOf, FILES, type Layout, type RegClass } from './codegen.ts';
import { LANE_OPS } from './lane-ops.ts';
import { Barriers } from './mbarrier.ts';
import { type GlobalMemory, GridWatch, SHARED_WINDOW, SharedMemory } from './memory.ts';
import { bytesOf, type Entry, type Instruction, type Operand, PtxError, type PtxModule, parsePtx } from './parse.ts';
import * as values from './values.ts';
import { type Block, clusterAddress, LocalMemory, Warp } from './warp.ts';
import { ldmatrix, mma, reduceLanes, shuffleSource, stmatrix, wgmma } from './warp-ops.ts';

export interface PtxLaunch {
  readonly entry: string;
  readonly grid: readonly [number, number, number];
  readonly block: readonly [number, number, number];
  /** Dynamic shared memory. */
  readonly sharedBytes: number;
  /** Blocks of a cluster along each dimension. */
  readonly cluster?: readonly [number, number, number];
  /** One a parameter, in order; a byte array for a parameter that is one. */
  readonly args: readonly (number | bigint | Uint8Array)[];
  readonly concurrent?: boolean;
}

type Step = (w: Warp, lanes: Int32Array, n: number) => void;
/** What follows a node's steps. A barrier may be guarded by the lanes it stops, checked when it runs. */
type End =
  | { readonly kind: 'next' }
  | { readonly kind: 'branch'; readonly guard?: (w: Warp, lane: number) => boolean; readonly to: number }
  | { readonly kind: 'exit'; readonly guard?: (w: Warp, lane: number) => boolean }
  | { readonly kind: 'barrier'; readonly ins: Instruction; readonly guard?: (w: Warp, lane: number) => boolean };
interface Node {
  readonly steps: Step[];
  readonly lines: Instruction[];
  end: End;
}

interface Compiled {
  readonly entry: Entry;
  readonly layout: Layout;
  readonly nodes: readonly Node[];
  readonly staticShared: number;
  readonly localBytes: number;
}

/** Instructions that one generated function holds: beyond, V8 compiles it badly. */
const SEGMENT = 300;
/** Turns in which nothing was done but to look. */
const TURNS_BEFORE_DEADLOCK = 1000;

export class PtxProgram {
  readonly module: PtxModule;
  readonly #compiled = new Map<string, Compiled>();

  constructor(text: string) {
    this.module = parsePtx(text);
  }

  run(memory: GlobalMemory, launch: PtxLaunch): void {
    const compiled = this.#compile(launch.entry);
    const { entry } = compiled;
    const threads = launch.block.reduce((a, b) => a * b);
    if (entry.maxThreads !== undefined && threads > entry.maxThreads)
      throw new PtxError(`${entry.name}: ${threads} threads a block, at most ${entry.maxThreads}`);
    if (threads < 1 || threads > 1024) throw new PtxError(`${entry.name}: ${threads} threads a block`);
    if (launch.args.length !== entry.params.length)
      throw new PtxError(`${entry.name} takes ${entry.params.length} parameters, not ${launch.args.length}`);
    const params = packParams(entry, launch.args);
    const variables = this.module.constants.map((v) =>
      memory.alloc(v.name, v.data ?? new Uint8Array(v.bytes), v.data !== undefined),
    );
    const [gx, gy, gz] = launch.grid;
    const cluster = launch.cluster ?? [1, 1, 1];
    const [cx, cy, cz] = launch.concurrent ? launch.grid : cluster;
    const watch = launch.concurrent ? new GridWatch(memory, gx * gy * gz) : undefined;
    for (let z = 0; z < gz; z += cz)
      for (let y = 0; y < gy; y += cy)
        for (let x = 0; x < gx; x += cx) {
          const group: Block[] = [];
          for (let k = 0; k < cz; k++)
            for (let j = 0; j < cy; j++)
              for (let i = 0; i < cx; i++)
                group.push(makeBlock(compiled, memory, params, variables, launch, [x + i, y + j, z + k], watch));
          for (const block of group) {
            const first = (b: Block): string =>
              [b.ctaid.x - b.cluster_ctaid.x, b.ctaid.y - b.cluster_ctaid.y, b.ctaid.z - b.cluster_ctaid.z].join();
            block.cluster.push(...group.filter((b) => first(b) === first(block)).sort((a, b) => a.rank - b.rank));
          }
          runBlocks(compiled, group);
        }
  }

  #compile(name: string): Compiled {
    const known = this.#compiled.get(name);
    if (known) return known;
    const entry = this.module.entries.get(name);
    if (!entry) throw new PtxError(`no entry ${name}; there are ${[...this.module.entries.keys()].join(', ')}`);
    const compiled = compileEntry(entry, new Map(this.module.constants.map((v, i) => [v.name, i])));
    this.#compiled.set(name, compiled);
    return compiled;
  }
}

function packParams(entry: Entry, args: PtxLaunch['args']): LocalMemory {
  const { offsets, bytes } = paramOffsets(entry);
  const memory = new LocalMemory(bytes);
  const view = new DataView(memory.u8.buffer);
  for (const [i, param] of entry.params.entries()) {
    const at = offsets.get(param.name) as number;
    const arg = args[i];
    if (arg instanceof Uint8Array) memory.u8.set(arg, at);
    else if (param.type === 'f32') view.setFloat32(at, Number(arg), true);
    else if (param.type === 'f64') view.setFloat64(at, Number(arg), true);
    else if (bytesOf(param.type) === 8) view.setBigInt64(at, BigInt(arg), true);
    else if (bytesOf(param.type) === 4) view.setInt32(at, Number(arg) | 0, true);
    else if (bytesOf(param.type) === 2) view.setInt16(at, Number(arg), true);
    else view.setInt8(at, Number(arg));
  }
  return memory;
}

function paramOffsets(entry: Entry): { offsets: Map<string, number>; bytes: number } {
  const offsets = new Map<string, number>();
  let bytes = 0;
  for (const p of entry.params) {
    bytes = Math.ceil(bytes / p.align) * p.align;
    offsets.set(p.name, bytes);
    bytes += p.bytes;
  }
  return { offsets, bytes };
}

function makeBlock(
  compiled: Compiled,
  memory: GlobalMemory,
  params: LocalMemory,
  variables: readonly number[],
  launch: PtxLaunch,
  at: readonly number[],
  watch: GridWatch | undefined,
): Block {
  const threads = launch.block.reduce((a, b) => a * b);
  const warps = Math.ceil(threads / 32);
  const dim = ([x, y, z]: readonly number[]) => ({ x, y, z });
  const cluster = launch.cluster ?? [1, 1, 1];
  const inCluster = at.map((a, i) => a % cluster[i]);
  const shared = new SharedMemory(compiled.staticShared + launch.sharedBytes, warps);
  const block: Block = {
    ctaid: dim(at),
    nctaid: dim(launch.grid),
    ntid: dim(launch.block),
    cluster_ctaid: dim(inCluster),
    cluster_nctaid: dim(cluster),
    variables,
    rank: inCluster[0] + cluster[0] * (inCluster[1] + cluster[1] * inCluster[2]),
    threads,
    shared,
    barriers: new Barriers(shared),
    warps: [],
    cluster: [],
    watch,
    number: at[0] + launch.grid[0] * (at[1] + launch.grid[1] * at[2]),
  };
  for (let i = 0; i < warps; i++)
    block.warps.push(new Warp(block, i, compiled.layout.sizes, memory, params, compiled.localBytes));
  return block;
}

function runBlocks(compiled: Compiled, blocks: readonly Block[]): void {
  for (let idle = 0; ; ) {
    let moved = false;
    let live = false;
    for (const block of blocks) {
      for (const warp of block.warps) {
        if (warp.live === 0 || warp.barrier) continue;
        live = true;
        if (runWarp(compiled, warp)) moved = true;
      }
      if (releaseBarriers(compiled, block)) moved = true;
      live ||= block.warps.some((w) => w.barrier);
    }
    if (!live) return;
    idle = moved ? 0 : idle + 1;
    const stuck = blocks.every((b) => b.warps.every((w) => w.live === 0 || w.barrier));
    if ((stuck && !moved) || idle > TURNS_BEFORE_DEADLOCK) {
      const waiting = blocks.flatMap((b) =>
        b.warps.filter((w) => w.barrier).map((w) => `block ${b.ctaid.x} warp ${w.index} at barrier ${w.barrier?.id}`),
      );
      throw new PtxError(`${compiled.entry.name}: nothing moves any more; ${waiting.join(', ') || 'all warps poll'}`);
    }
  }
}

/** Frees the warps whose barrier has all its threads. */
function releaseBarriers(compiled: Compiled, block: Block): boolean {
  let released = false;
  const ids = new Set(block.warps.flatMap((w) => (w.barrier ? [w.barrier.id] : [])));
  for (const id of ids) {
    const waiting = block.warps.filter((w) => w.barrier?.id === id);
    if (id === CLUSTER) {
      const all = block.cluster.flatMap((b) => b.warps);
      const through = waiting.filter((w) =>
        all.every((x) => x.live === 0 || x.clusterArrivals >= (w.barrier?.count ?? 0)),
      );
      if (through.length < block.warps.filter((w) => w.live > 0).length) continue;
      block.shared.synchronise(through.map((w) => w.index));
      for (const w of through) w.barrier = undefined;
      released = true;
      continue;
    }
    const count = waiting[0].barrier?.count as number;
    if (waiting.some((w) => w.barrier?.count !== count))
      throw new PtxError(`${compiled.entry.name}: barrier ${id} with different counts`);
    // Threads that have ended count as arrived at a barrier of the whole block.
    const gone = count === block.threads ? block.warps.filter((w) => w.live === 0).reduce((n, w) => n + w.lanes, 0) : 0;
    if (waiting.reduce((n, w) => n + w.lanes, 0) + gone < count) continue;
    block.shared.synchronise(waiting.map((w) => w.index));
    for (const w of waiting) w.barrier = undefined;
    released = true;
  }
  return released;
}

const ALL = Int32Array.from({ length: 32 }, (_, i) => i);
/** Nodes that a warp runs before others get a turn: spins must not starve whom they wait for. */
const TURN = 400;

/** Runs a warp until it ends, waits or has had its turn. True if it did anything but poll. */
function runWarp(compiled: Compiled, w: Warp): boolean {
  const lanes = new Int32Array(32);
  for (let turn = 0; turn < TURN; turn++) {
    if (w.live === 0 || w.barrier) return true;
    let at = 0x7fffffff;
    for (let l = 0; l < 32; l++) if (!w.exited[l] && w.pc[l] < at) at = w.pc[l];
    let n = 0;
    for (let l = 0; l < 32; l++) if (!w.exited[l] && w.pc[l] === at) lanes[n++] = l;
    runNode(compiled, w, at, lanes, n);
    if (w.yields) {
      w.yields = false;
      return false;
    }
  }
  return true;
}

function runNode(compiled: Compiled, w: Warp, at: number, lanes: Int32Array, n: number): void {
  const node = compiled.nodes[at];
  const active = n === 32 ? ALL : lanes;
  let i = 0;
  try {
    for (; i < node.steps.length; i++) node.steps[i](w, active, n);
  } catch (error) {
    throw located(error, compiled, node, i, w);
  }
  const { end } = node;
  switch (end.kind) {
    case 'next':
      for (let j = 0; j < n; j++) w.pc[lanes[j]] = at + 1;
      break;
    case 'branch':
      for (let j = 0; j < n; j++) w.pc[lanes[j]] = !end.guard || end.guard(w, lanes[j]) ? end.to : at + 1;
      break;
    case 'exit':
      for (let j = 0; j < n; j++) {
        const l = lanes[j];
        if (!end.guard || end.guard(w, l)) {
          w.exited[l] = 1;
          w.live--;
        } else w.pc[l] = at + 1;
      }
      break;
    case 'barrier': {
      const stopped = end.guard ? [...lanes.subarray(0, n)].filter((l) => end.guard?.(w, l)).length : n;
      for (let j = 0; j < n; j++) w.pc[lanes[j]] = at + 1;
      if (stopped === 0) break;
      if (stopped !== w.live)
        throw new PtxError(
          `line ${end.ins.line}: ${stopped} of ${w.live} lanes of warp ${w.index} reach ${end.ins.text}`,
        );
      w.barrier = barrierOf(end.ins, w);
      break;
    }
    default:
      end satisfies never;
  }
}

/** The number that stands for the barrier of a cluster; its count is the arrivals that all warps must have made. */
const CLUSTER = -1;
const isClusterBarrier = (ins: Instruction): boolean => ins.op === 'barrier' && ins.mods[0] === 'cluster';

function barrierOf(ins: Instruction, w: Warp): { id: number; count: number } {
  if (isClusterBarrier(ins)) return { id: CLUSTER, count: w.clusterArrivals };
  const number = (o: Operand | undefined, otherwise: number): number => {
    if (!o) return otherwise;
    if (o.kind !== 'number') throw new PtxError(`line ${ins.line}: barriers take constants here`);
    return Number(o.text);
  };
  return { id: number(ins.operands[0], 0), count: number(ins.operands[1], w.block.threads) };
}

function located(error: unknown, compiled: Compiled, node: Node, step: number, w: Warp): unknown {
  if (!(error instanceof PtxError) || error.message.includes('line ')) return error;
  const line = w.atLine || node.lines[step]?.line;
  const { x, y, z } = w.block.ctaid;
  const ins = compiled.entry.code.find((c) => c.line === line);
  return new PtxError(
    `${compiled.entry.name} line ${line}, block ${x},${y},${z} thread ${w.base + w.lane}: ${error.message}\n    ${ins?.text}`,
  );
}

/** Instructions after which a node ends. */
const isEnd = (ins: Instruction): boolean =>
  ['bra', 'exit', 'ret', 'bar', 'barrier'].includes(ins.op) &&
  !(ins.op === 'bar' && ins.mods[0] === 'warp') &&
  !(isClusterBarrier(ins) && ins.mods[1] === 'arrive');

function compileEntry(entry: Entry, variables: ReadonlyMap<string, number>): Compiled {
  const { layout, staticShared, localBytes } = layoutOf(entry, variables);
  const starts = new Set([0, ...entry.labels.values()]);
  const users = countSegments(entry, starts);
  const nodes: Node[] = [];
  const nodeAt = new Map<number, number>();
  const targets: { node: Node; to: string; ins: Instruction }[] = [];
  let node: Node | undefined;
  let lane: Instruction[] = [];
  const flush = (): void => {
    if (lane.length === 0) return;
    node?.steps.push(compileSegment(entry, layout, lane, users));
    node?.lines.push(lane[0]);
    lane = [];
  };
  for (const [i, ins] of entry.code.entries()) {
    if (starts.has(i) || !node) {
      flush();
      node = { steps: [], lines: [], end: { kind: 'next' } };
      nodeAt.set(i, nodes.length);
      nodes.push(node);
    }
    if (isEnd(ins)) {
      flush();
      const guard = guardOf(ins, layout);
      const g = guard && { guard };
      if (ins.op === 'bra') targets.push({ node, to: (ins.operands[0] as { name: string }).name, ins });
      else node.end = ins.op === 'exit' || ins.op === 'ret' ? { kind: 'exit', ...g } : { kind: 'barrier', ins, ...g };
      node = undefined;
    } else if (ins.op in WARP_OPS) {
      flush();
      node.steps.push(compileWarpOp(ins, entry, layout));
      node.lines.push(ins);
    } else {
      lane.push(ins);
      if (lane.length === SEGMENT) flush();
    }
  }
  flush();
  nodes.push({ steps: [], lines: [], end: { kind: 'exit' } });
  nodeAt.set(entry.code.length, nodes.length - 1);
  for (const { node: from, to, ins } of targets) {
    const at = nodeAt.get(entry.labels.get(to) ?? -1);
    if (at === undefined) throw new PtxError(`line ${ins.line}: no label ${to}`);
    const guard = guardOf(ins, layout);
    from.end = { kind: 'branch', to: at, ...(guard && { guard }) };
  }
  return { entry, layout, nodes, staticShared, localBytes };
}

function layoutOf(
  entry: Entry,
  variables: ReadonlyMap<string, number>,
): { layout: Layout; staticShared: number; localBytes: number } {
  const sizes: Record<RegClass, number> = { p: 0, h: 0, i: 0, f: 0, q: 0, d: 0 };
  const offset = new Map<string, number>();
  for (const [name, type] of entry.regs) {
    const c = classOf(type);
    // f and i share a file.
    offset.set(name, c === 'f' ? sizes.i++ : sizes[c]++);
  }
  const symbols = new Map<string, number>();
  const place = (vars: Entry['shared']): number => {
    let at = 0;
    for (const v of vars) {
      at = Math.ceil(at / v.align) * v.align;
      symbols.set(v.name, at);
      at += v.bytes;
    }
    return at;
  };
  const localBytes = Math.ceil(place(entry.local) / 16) * 16;
  const staticShared = Math.ceil(place(entry.shared) / 1024) * 1024;
  if (entry.dynamicShared) symbols.set(entry.dynamicShared, staticShared);
  return {
    layout: { offset, sizes, symbols, variables, params: paramOffsets(entry).offsets },
    staticShared,
    localBytes,
  };
}

function registersOf(o: Operand, entry: Entry, found: (name: string) => void): void {
  if ((o.kind === 'reg' || o.kind === 'name') && entry.regs.has(o.name)) found(o.name);
  else if (o.kind === 'address') {
    if (o.base) registersOf(o.base, entry, found);
    for (const x of o.rest) registersOf(x, entry, found);
  } else if (o.kind === 'list') for (const x of o.items) registersOf(x, entry, found);
  else if (o.kind === 'pair') for (const x of [o.a, o.b]) registersOf(x, entry, found);
}

/** Registers that more than one segment touches. */
function countSegments(entry: Entry, starts: ReadonlySet<number>): ReadonlySet<string> {
  const first = new Map<string, number>();
  const several = new Set<string>();
  let segment = 0;
  let length = 0;
  for (const [i, ins] of entry.code.entries()) {
    const alone = isEnd(ins) || ins.op in WARP_OPS;
    if (starts.has(i) || alone || length === SEGMENT) {
      segment++;
      length = 0;
    }
    const found = (name: string): void => {
      const at = first.get(name);
      if (at === undefined) first.set(name, segment);
      else if (at !== segment) several.add(name);
    };
    for (const o of ins.operands) registersOf(o, entry, found);
    if (ins.guard) found(ins.guard.reg);
    if (alone) segment++;
    else length++;
  }
  return several;
}

const MAY_FAIL = new Set(['ld', 'ldu', 'st', 'atom', 'red', 'cp', 'mbarrier', 'trap']);

const runtime = {
  ...values,
  window: SHARED_WINDOW,
  clusterAddress,
  trap: (line: number): never => {
    throw new PtxError(`line ${line}: trap`);
  },
};

function compileSegment(
  entry: Entry,
  layout: Layout,
  code: readonly Instruction[],
  several: ReadonlySet<string>,
): Step {
  const g = new Codegen(entry, layout);
  for (const ins of code) {
    const row = LANE_OPS[ins.op];
    if (!row) throw new PtxError(`line ${ins.line}: ${ins.op} is not supported: ${ins.text}`);
    try {
      if (MAY_FAIL.has(ins.op)) g.lines.push(`w.atLine=${ins.line};`);
      g.lines.push('{');
      g.guard(ins, () => row(g, ins));
      g.lines.push('}');
    } catch (error) {
      throw error instanceof PtxError && !error.message.startsWith('line')
        ? new PtxError(`line ${ins.line}: ${error.message}\n    ${ins.text}`)
        : error;
    }
  }
  const source = g.finish((reg) => several.has(reg));
  return new Function('v', `return (w,L,n)=>{${source}}`)(runtime) as Step;
}

function guardOf(ins: Instruction, layout: Layout): ((w: Warp, lane: number) => boolean) | undefined {
  if (!ins.guard) return undefined;
  const at = (layout.offset.get(ins.guard.reg) ?? Number.NaN) * 32;
  const want = ins.guard.negated ? 0 : 1;
  return (w, lane) => w.P[at + lane] === want;
}

/** The lanes of a member mask that have not ended must all be here. */
function checkMembers(w: Warp, lanes: Int32Array, n: number, mask: number): void {
  const active = w.activeMask(lanes, n);
  let live = 0;
  for (let l = 0; l < 32; l++) if (!w.exited[l]) live |= 1 << l;
  if (mask & live & ~active)
    throw new PtxError(
      `lanes ${(active >>> 0).toString(16)} are here, the member mask says ${(mask >>> 0).toString(16)}`,
    );
}

type WarpRow = (ins: Instruction, r: Registers) => Step;

/** Reads and writes of operands outside generated code. */
class Registers {
  readonly entry: Entry;
  readonly layout: Layout;
  constructor(entry: Entry, layout: Layout) {
    this.entry = entry;
    this.layout = layout;
  }
  /** Offsets of 32-bit registers in their file. */
  offsets(o: Operand): number[] {
    const items = o.kind === 'list' ? o.items : [o];
    return items.map((x) => {
      if (x.kind !== 'reg' && x.kind !== 'name') throw new PtxError(`${JSON.stringify(x)} is no register`);
      const type = this.entry.regs.get(x.name);
      if (!type || !'if'.includes(classOf(type))) throw new PtxError(`${x.name} is no 32-bit register`);
      return (this.layout.offset.get(x.name) as number) * 32;
    });
  }
  /** A function that gives a lane's value of the type. */
  reader(o: Operand, type: string): (w: Warp, lane: number) => number {
    const g = new Codegen(this.entry, this.layout);
    const x = o.kind === 'address' ? g.address(o) : g.read(o, type);
    const loads = [...g.touched.keys()].map((name) => {
      const c = classOf(this.entry.regs.get(name) as string);
      const at = this.layout.offset.get(name) as number;
      return `const ${c}${at}=w.${FILES[c]}[${at * 32}+l];`;
    });
    return new Function('v', `return (w,l)=>{${loads.join('')}return ${x};}`)(runtime) as (
      w: Warp,
      lane: number,
    ) => number;
  }
  writePred(o: Operand): (w: Warp, lane: number, value: boolean) => void {
    const name = (o as { name: string }).name;
    const at = (this.layout.offset.get(name) ?? Number.NaN) * 32;
    return (w, lane, value) => {
      w.P[at + lane] = value ? 1 : 0;
    };
  }
}

const everyLane = (w: Warp, n: number): void => {
  if (n !== w.lanes || n !== 32) throw new PtxError(`only ${n} lanes of 32 are here`);
};

const matrixRow =
  (isLoad: boolean): WarpRow =>
  (ins, r) => {
    const [x, y] = ins.operands;
    const regs = r.offsets(isLoad ? x : y);
    if (regs.length !== Number(ins.mods.find((m) => /^x\d$/.test(m))?.slice(1)))
      throw new PtxError(`line ${ins.line}: ${ins.text}: wrong number of registers`);
    const address = r.reader(isLoad ? y : x, 'b64');
    const transposed = ins.mods.includes('trans');
    const at = new Float64Array(32);
    return (w, _, n) => {
      everyLane(w, n);
      for (let l = 0; l < 32; l++) at[l] = address(w, l);
      (isLoad ? ldmatrix : stmatrix)(w, regs, at, transposed);
    };
  };

const WARP_OPS: Readonly<Record<string, WarpRow>> = {
  mma: (ins, r) => {
    const [d, a, b, c] = ins.operands.map((o) => r.offsets(o));
    return (w, _, n) => {
      everyLane(w, n);
      mma(w, ins, d, a, b, c);
    };
  },
  // Products are added when they are waited for: what is read too early, or overwritten, shows.
  wgmma: (ins, r) => {
    const [kind] = ins.mods;
    if (kind === 'fence') return (w, _, n) => everyLane(w, n);
    if (kind === 'commit_group')
      return (w) => {
        w.productGroups.push(w.products);
        w.products = [];
      };
    if (kind === 'wait_group') {
      const pending = Number((ins.operands[0] as { text: string }).text);
      return (w) => {
        while (w.productGroups.length > pending) for (const add of w.productGroups.shift() ?? []) add();
      };
    }
    const [d, a, b, p] = ins.operands;
    const offsets = r.offsets(d);
    const [da, db] = [r.reader(a, 'b64'), r.reader(b, 'b64')];
    const adds = r.reader(p, 'pred');
    return (w, _, n) => {
      everyLane(w, n);
      const [x, y, add] = [values.unsigned(da(w, 0)), values.unsigned(db(w, 0)), adds(w, 0) !== 0];
      w.products.push(() => wgmma(w, ins, offsets, x, y, add));
    };
  },
  ldmatrix: matrixRow(true),
  stmatrix: matrixRow(false),
  shfl: (ins, r) => {
    const [, mode] = ins.mods;
    const [dest, a, b, c, mask] = ins.operands;
    const d = r.offsets(dest.kind === 'pair' ? dest.a : dest)[0];
    const p = dest.kind === 'pair' ? r.writePred(dest.b) : undefined;
    const [value, by, limits, members] = [a, b, c, mask].map((o) => r.reader(o, 'b32'));
    const got = new Int32Array(32);
    return (w, lanes, n) => {
      checkMembers(w, lanes, n, members(w, lanes[0]));
      const active = w.activeMask(lanes, n);
      for (let i = 0; i < n; i++) got[lanes[i]] = value(w, lanes[i]);
      const sources = [...lanes.subarray(0, n)].map((l) => shuffleSource(mode, l, by(w, l), limits(w, l)));
      for (let i = 0; i < n; i++) {
        const { from, inside } = sources[i];
        if (!((active >>> from) & 1))
          throw new PtxError(`lane ${lanes[i]} shuffles from lane ${from}, which is not here`);
        w.I[d + lanes[i]] = got[from];
        p?.(w, lanes[i], inside);
      }
    };
  },
  vote: (ins, r) => {
    const mode = ins.mods[1];
    const [d, a, mask] = ins.operands;
    const value = r.reader(a, 'pred');
    const members = r.reader(mask, 'b32');
    const out = mode === 'ballot' ? r.offsets(d)[0] : 0;
    const p = mode === 'ballot' ? undefined : r.writePred(d);
    return (w, lanes, n) => {
      const mask = members(w, lanes[0]);
      checkMembers(w, lanes, n, mask);
      let ballot = 0;
      for (let i = 0; i < n; i++) if (value(w, lanes[i])) ballot |= 1 << lanes[i];
      const active = w.activeMask(lanes, n) & mask;
      for (let i = 0; i < n; i++) {
        if (mode === 'ballot') w.I[out + lanes[i]] = ballot & mask;
        else
          p?.(
            w,
            lanes[i],
            mode === 'any'
              ? (ballot & active) !== 0
              : mode === 'all'
                ? (ballot & active) === active
                : (ballot & active) === 0 || (ballot & active) === active,
          );
      }
    };
  },
  redux: (ins, r) => {
    const [d, a, mask] = ins.operands;
    const out = r.offsets(d)[0];
    const value = r.reader(a, 'b32');
    const members = r.reader(mask, 'b32');
    return (w, lanes, n) => {
      checkMembers(w, lanes, n, members(w, lanes[0]));
      const all = reduceLanes(
        ins.mods[1],
        [...lanes.subarray(0, n)].map((l) => value(w, l)),
        ins.mods[2] === 'u32',
      );
      for (let i = 0; i < n; i++) w.I[out + lanes[i]] = all;
    };
  },
  elect: (ins, r) => {
    const d = ins.operands[0];
    if (d.kind !== 'pair') throw new PtxError(`line ${ins.line}: elect.sync d|p`);
    const p = r.writePred(d.b);
    return (w, lanes, n) => {
      for (let i = 0; i < n; i++) p(w, lanes[i], i === 0);
    };
  },
  barrier: () => (w, _, n) => {
    if (n !== w.live) throw new PtxError(`${n} of ${w.live} lanes arrive at the cluster's barrier`);
    w.clusterArrivals++;
  },
  bar: (ins, r) => {
    const members = r.reader(ins.operands[0], 'b32');
    return (w, lanes, n) => {
      checkMembers(w, lanes, n, members(w, lanes[0]));
      w.block.shared.clocks[w.index][w.index]++;
    };
  },
};

/** A warp instruction, for the lanes that its guard lets through. */
function compileWarpOp(ins: Instruction, entry: Entry, layout: Layout): Step {
  let step: Step;
  try {
    step = WARP_OPS[ins.op](ins, new Registers(entry, layout));
  } catch (error) {
    throw error instanceof PtxError && !error.message.startsWith('line')
      ? new PtxError(`line ${ins.line}: ${error.message}\n    ${ins.text}`)
      : error;
  }
  const run: Step = (w, lanes, n) => {
    w.atLine = ins.line;
    w.lane = lanes[0];
    step(w, lanes, n);
  };
  const guard = guardOf(ins, layout);
  if (!guard) return run;
  return (w, lanes, n) => {
    const some = lanes.slice(0, n).filter((l) => guard(w, l));
    if (some.length > 0) run(w, some, some.length);
  };
}
