/**
 * The device of target wasm: puts an engine's weights and module into a memory, starts workers on it, makes contexts.
 *
 * One memory an engine: control block, weights, then one arena a context. Where the host has shared memory, every thread runs the
 * same module over it (ARCHITECTURE.md, "The program on a CPU"); otherwise one thread does. Views of a context stay valid when
 * the memory grows: shared memory keeps its old views, and without it a context copies to and from arrays of its own.
 */
import { ModelError } from '../../core/errors.ts';
import type { Device, DeviceInfo, OpenEngine, OpenOptions } from '../../engine/device.ts';
import type { CodeSection, Engine } from '../../engine/engine.ts';
import { contextBytes } from '../../engine/scratch.ts';
import { coreCount, processorName } from '../../host/processor.ts';
import { compileWasm, type WasmFeatures, wasmFeatures } from '../../host/wasm-features.ts';
import type { HostWorker } from '../../host/workers.ts';
import { createContext } from './context.ts';
import { counterStride, VARIANTS, type Variant } from './control.ts';
import { EngineMemory } from './memory.ts';
import { endWorkers, spawnWorkers, startTeam, type Team } from './team.ts';

/** Rounds in which a host that starts with slower code may replace it, and the time they may take together. */
const WARMUP_RUNS = 3;
const WARMUP_MS = 300;

export const wasmDevice: Device = {
  target: 'wasm',
  probe: async (): Promise<DeviceInfo> => {
    const features = wasmFeatures();
    const reason = shortcomings(features).join('; ');
    return {
      target: 'wasm',
      name: processorName(),
      available: features.simd,
      ...(reason !== '' && { reason }),
      features: featureNames(features),
    };
  },
  open: (engine, options) => openWasm(engine, options, wasmFeatures()),
};

export const featureNames = (features: WasmFeatures): string[] => [
  ...(features.simd ? ['simd128'] : []),
  ...(features.relaxedSimd ? ['relaxed-simd'] : []),
  ...(features.threads ? ['threads'] : []),
];

/** Why programs do not run, or run slower than they could. */
function shortcomings({ simd, relaxedSimd, threads }: WasmFeatures): string[] {
  if (!simd) return ['this host has no WebAssembly SIMD'];
  return [
    ...(relaxedSimd ? [] : ['no relaxed SIMD: multiply and add are two instructions']),
    ...(threads ? [] : ['no shared memory (SharedArrayBuffer): one thread; a web page must be cross-origin isolated']),
  ];
}

/** The best section that the engine has and the host takes. */
function chooseCode(engine: Engine, features: WasmFeatures): { variant: Variant; section: CodeSection } {
  for (const variant of VARIANTS) {
    if ((variant.relaxed && !features.relaxedSimd) || (variant.threads && !features.threads)) continue;
    const section = engine.code.find((s) => s.name === variant.name);
    if (section) return { variant, section };
  }
  throw new ModelError('engine-machine', `engine "${engine.name}" holds no WebAssembly code that this host can run`, {
    hint: `it has ${engine.code.map((s) => s.name).join(', ') || 'no code'}; build it again here`,
  });
}

/**
 * Opens an engine with the host's features, or fewer of them. Throws ModelError `target-unavailable`, `engine-machine` or
 * `out-of-memory`.
 */
export async function openWasm(engine: Engine, options: OpenOptions, features: WasmFeatures): Promise<OpenEngine> {
  if (engine.target !== 'wasm') {
    throw new ModelError('engine-machine', `engine "${engine.name}" was built for ${engine.target}, not for wasm`);
  }
  if (!features.simd) throw new ModelError('target-unavailable', shortcomings(features).join());
  const { variant, section } = chooseCode(engine, features);
  for (const message of shortcomings(features)) options.onWarning(message);
  const wanted = options.threads === 'auto' ? coreCount() : Math.max(1, Math.floor(options.threads));
  const threads = variant.threads ? wanted : 1;

  const counterBytes = variant.threads ? threads * counterStride(engine.steps.length) : 0;
  const memory = new EngineMemory(engine.weightBytes, contextBytes(engine, threads), counterBytes, variant.threads);
  const workers = spawnWorkers(threads - 1);
  const { team, optimized } = await startProgram(section, memory, workers, features.mayWait);
  const contexts = new Set<{ dispose(): void }>();
  let disposed = false;

  const open: OpenEngine = {
    threads,
    features: featureNames(features).filter((name) => name !== 'threads' || variant.threads),
    memoryBytes: () => (disposed ? 0 : memory.bytes() + section.bytes.byteLength),
    createContext: () => {
      if (disposed) throw new ModelError('disposed', `engine "${engine.name}" was disposed`);
      const context = createContext(engine, memory, team, () => contexts.delete(context));
      contexts.add(context);
      return context;
    },
    dispose: () => {
      if (disposed) return;
      disposed = true;
      for (const context of contexts) context.dispose();
      team.end();
      memory.release();
    },
  };
  if (!optimized) warmUp(open);
  return open;
}

/** Compiles the code while the workers start, and brings them together. The workers end where that fails. */
async function startProgram(
  section: CodeSection,
  memory: EngineMemory,
  workers: readonly HostWorker[],
  mayWait: boolean,
): Promise<{ readonly team: Team; readonly optimized: boolean }> {
  try {
    const { module, optimized } = await compileWasm(section.bytes);
    return { team: await startTeam(module, memory, workers, mayWait), optimized };
  } catch (cause) {
    endWorkers(workers);
    if (!(cause instanceof WebAssembly.CompileError)) throw cause;
    throw new ModelError('engine-parse', `code section ${section.name} is not valid WebAssembly`, { cause });
  }
}

/** A few runs on zeros, so that the host's baseline code has been replaced before the first inference that counts. */
function warmUp(open: OpenEngine): void {
  const context = open.createContext();
  const start = performance.now();
  for (let i = 0; i < WARMUP_RUNS && performance.now() - start < WARMUP_MS; i++) context.execute();
  context.dispose();
}
