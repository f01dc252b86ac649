/**
 * What a register tile can reach in WebAssembly: GFLOP/s of one core by rows × columns, unrolling and relaxed SIMD, all in cache.
 *
 *     node bench/wasm-tiles.ts [rows]x[columns] ...
 *
 * Each k step splats one element a row, loads a vector a lane group of columns, and multiplies all pairs. Rounds take turns, the
 * best of each counts: this asks what the compiler made of the loop, not how busy the machine is.
 */
import { compileWasm, wasmFeatures } from '../src/host/wasm-features.ts';
import { WasmAsm } from '../src/targets/wasm/asm.ts';
import type { Bytes } from '../src/targets/wasm/encode.ts';
import { ModuleBuilder } from '../src/targets/wasm/module.ts';

interface TileOptions {
  readonly rows: number;
  readonly columns: number;
  readonly unroll: number;
  readonly relaxed: boolean;
}

const K = 256;
const ROUNDS = 300;
const FLOPS_A_ROUND = 4e6;
const [A, B, OUT] = [1024, 262_144, 1_048_576];
const DEFAULT_SHAPES = ['1x16', '2x16', '3x12', '4x8', '5x8', '6x8', '3x16', '4x12', '4x16', '8x8', '6x4', '12x4'];

/** `end` times: out[rows][columns] = a[rows][K] · b[K][columns]. */
function emitTile({ rows, columns, unroll, relaxed }: TileOptions): Bytes {
  const asm = new WasmAsm(3, { relaxed });
  const [begin, end, a, b, out] = asm.params;
  const vectors = columns / asm.lanes;
  asm.loop(begin, end, 1, () => {
    const acc = Array.from({ length: rows * vectors }, () => {
      const sum = asm.reg('vf32');
      asm.move(sum, asm.const('vf32', 0));
      return sum;
    });
    const [pa, pb] = [asm.reg('ptr'), asm.reg('ptr')];
    asm.move(pa, a);
    asm.move(pb, b);
    asm.loop(asm.const('i32', 0), asm.const('i32', K), unroll, () => {
      for (let u = 0; u < unroll; u++) {
        const splats = Array.from({ length: rows }, (_, r) => asm.load('splatf32', pa, 4 * (r * K + u)));
        for (let v = 0; v < vectors; v++) {
          const vector = asm.load('vf32', pb, 16 * (u * vectors + v));
          for (let r = 0; r < rows; r++) asm.fma(acc[r * vectors + v], splats[r], vector);
        }
      }
      asm.op('add', [pa, asm.const('ptr', 4 * unroll)], pa);
      asm.op('add', [pb, asm.const('ptr', 4 * columns * unroll)], pb);
    });
    acc.forEach((sum, i) => {
      asm.store('vf32', out, 16 * i, sum);
    });
  });
  return asm.finish();
}

interface Row extends TileOptions {
  readonly work: () => void;
  readonly flops: number;
  best: number;
}

async function prepare(options: TileOptions): Promise<Row> {
  const module = new ModuleBuilder();
  module.importMemory('env', 'memory', { min: 1 });
  const tile = module.declare('tile', { params: ['i32', 'i32', 'i32', 'i32', 'i32'], results: [] });
  module.define(tile, emitTile(options));
  module.exportFunction('tile', tile);
  const { module: compiled } = await compileWasm(module.build());
  const memory = new WebAssembly.Memory({ initial: 17 });
  new Float32Array(memory.buffer).fill(0.5);
  const run = new WebAssembly.Instance(compiled, { env: { memory } }).exports.tile as (...args: number[]) => void;
  const once = 2 * options.rows * options.columns * K;
  const times = Math.ceil(FLOPS_A_ROUND / once);
  return { ...options, flops: once * times, best: 0, work: () => run(0, times, A, B, OUT) };
}

wasmFeatures();
const shapes = process.argv.length > 2 ? process.argv.slice(2) : DEFAULT_SHAPES;
const rows: Row[] = [];
for (const shape of shapes) {
  const [tileRows, columns] = shape.split('x').map(Number);
  for (const relaxed of [true, false]) {
    for (const unroll of [1, 2, 4]) rows.push(await prepare({ rows: tileRows, columns, unroll, relaxed }));
  }
}
for (let round = 0; round < ROUNDS; round++) {
  for (const row of rows) {
    const start = performance.now();
    row.work();
    row.best = Math.max(row.best, row.flops / (performance.now() - start) / 1e6);
  }
}
console.log('tile    relaxed k1    k2    k4   simd128 k1    k2    k4');
for (const shape of shapes) {
  const of = (relaxed: boolean): string =>
    rows
      .filter((r) => `${r.rows}x${r.columns}` === shape && r.relaxed === relaxed)
      .map((r) => r.best.toFixed(1).padStart(5))
      .join(' ');
  console.log(`${shape.padEnd(10)} ${of(true).padStart(18)} ${of(false).padStart(22)}`);
}
