/**
 * The device of target cuda: emits an engine's kernels as PTX, has the driver compile them (or finds them compiled), loads the weights once
 * and makes contexts over them.
 *
 * A wrong address on a GPU ends this process's work there, and may touch what else the process has on it: targets/admit.ts lets
 * through only engines that cannot leave their buffers. Code of an engine file is used only where the caller trusts the file.
 */
import { ModelError } from '../../core/errors.ts';
import { Context } from '../../cuda/context.ts';
import type { Device, OpenEngine, OpenOptions } from '../../engine/device.ts';
import type { CodeSection, Engine } from '../../engine/engine.ts';
import { fileFingerprint } from '../../engine/format.ts';
import type { CacheFolder } from '../../host/cache-folder.ts';
import { parseKernel } from '../../loop/parse.ts';
import { printKernel } from '../../loop/print.ts';
import { admitEngine } from '../admit.ts';
import { CudaContext } from './context.ts';
import { type Cubins, cubinSections, gpuOf, keptCubins, obtainCubins, userCubins } from './cubins.ts';
import { type KeptProgram, type KeptPrograms, userPrograms } from './kept-program.ts';
import { directIoOf, LoadedProgram } from './loaded-program.ts';
import { type CudaMachine, cudaMachine } from './machine.ts';
import { type CudaProgram, emitProgram } from './program.ts';
import { CUDA_TEMPLATES } from './templates.ts';

/** Where a device keeps what it made for an engine, and looks for it. */
export interface CudaCaches {
  readonly cubins: CacheFolder | undefined;
  readonly programs: KeptPrograms | undefined;
}
const userCaches = (): CudaCaches => ({ cubins: userCubins(), programs: userPrograms() });
const NO_CACHES: CudaCaches = { cubins: undefined, programs: undefined };

export const cudaDevice: Device = {
  target: 'cuda',
  probe: async () => {
    const machine = await cudaMachine();
    if (typeof machine === 'string') {
      return { target: 'cuda', name: 'NVIDIA GPU', available: false, reason: machine, features: [] };
    }
    return { target: 'cuda', name: machine.device.name, available: true, features: machine.features };
  },
  recall: async (engine, options) => {
    const isKept = options.cache !== false && !options.apart;
    const isWanted = isKept && engine.target === 'cuda' && fileFingerprint(engine) !== undefined;
    return isWanted ? recallProgram(engine, options, await machineHere(), userCaches()) : undefined;
  },
  open: async (engine, options) => {
    if (engine.target !== 'cuda') {
      throw new ModelError('engine-machine', `engine "${engine.name}" was built for ${engine.target}, not for cuda`);
    }
    const machine = await machineHere();
    return openEmitted(engine, options, machine, options.cache === false ? NO_CACHES : userCaches());
  },
};

/** Compiles the engine for the GPU here and keeps the cubins in the user's cache; they are also the result. Throws as `open`. */
export async function compileEngine(engine: Engine): Promise<readonly CodeSection[]> {
  const machine = await machineHere();
  const { driver, device } = machine;
  const { modules } = programOf(engine, machine);
  let opened: Context | undefined;
  const context = (): Context => {
    opened ??= new Context(driver, device);
    return opened;
  };
  try {
    const sources = { cache: userCubins(), embedded: [] };
    return await cubinSections(await obtainCubins({ driver, device, context }, modules, sources));
  } finally {
    opened?.dispose();
  }
}

async function machineHere(): Promise<CudaMachine> {
  const machine = await cudaMachine();
  if (typeof machine === 'string') throw new ModelError('target-unavailable', machine);
  return machine;
}

/** What the engine is on this machine. Throws as `admitEngine`. */
export const programOf = (
  engine: Engine,
  { features, chip }: CudaMachine,
  { onWarning = () => {}, apart = false }: Partial<OpenOptions> = {},
): CudaProgram => emitProgram(admitEngine(asWritten(engine), CUDA_TEMPLATES, features, onWarning), chip, { apart });

/**
 * The engine with its kernels as a file has them: expressions that are equal are one there. So an engine just built gives the same code as
 * the file that it becomes, and is found compiled.
 */
const asWritten = (engine: Engine): Engine => ({
  ...engine,
  kernels: engine.kernels.map((kernel) => parseKernel(printKernel(kernel))),
});

function kept(engine: Engine, program: CudaProgram, { keys }: Cubins, warnings: readonly string[]): KeptProgram {
  const { modules: _, ...launched } = program;
  return { program: launched, keys, direct: directIoOf(engine, program), warnings };
}

/** Opens an engine whose program and cubins were all kept; undefined where one is missing. Throws as `openProgram`. */
export async function recallProgram(
  engine: Engine,
  { onWarning }: OpenOptions,
  machine: CudaMachine,
  { cubins, programs }: CudaCaches,
): Promise<OpenEngine | undefined> {
  const fingerprint = fileFingerprint(engine);
  if (!cubins || !programs || fingerprint === undefined) return undefined;
  const found = await programs.read(fingerprint, machine);
  if (!found) return undefined;
  const begun = Context.begin(machine.driver, machine.device);
  try {
    const images = await keptCubins(cubins, found.keys);
    if (!images) return undefined;
    found.warnings.forEach(onWarning);
    await begun;
    return await openOn(machine, (gpu) => new LoadedProgram(gpu, engine, found.program, images, found.direct));
  } finally {
    (await begun)();
  }
}

/** Emits the engine's program, opens it and keeps it. Throws as `admitEngine` and `openProgram`. */
export async function openEmitted(
  engine: Engine,
  options: OpenOptions,
  machine: CudaMachine,
  { cubins, programs }: CudaCaches,
): Promise<OpenEngine> {
  const begun = Context.begin(machine.driver, machine.device);
  try {
    const warnings: string[] = [];
    const { apart = false } = options;
    const program = programOf(engine, machine, { apart, onWarning: (message) => warnings.push(message) });
    warnings.forEach(options.onWarning);
    const fingerprint = apart ? undefined : fileFingerprint(engine);
    const keep = async (compiled: Cubins): Promise<void> => {
      if (fingerprint !== undefined)
        await programs?.write(fingerprint, machine, kept(engine, program, compiled, warnings));
    };
    await begun;
    return await openProgram(engine, program, options, machine, cubins, keep);
  } finally {
    (await begun)();
  }
}

/** Opens a program that was found safe. `keep` is told of its cubins. Throws ModelError `out-of-memory`, `device-code`, `device-lost` or `driver-error`. */
export async function openProgram(
  engine: Engine,
  program: CudaProgram,
  options: OpenOptions,
  machine: CudaMachine,
  cache: CacheFolder | undefined,
  keep: (cubins: Cubins) => Promise<void> = async () => {},
): Promise<OpenEngine> {
  return openOn(machine, async (gpu) => {
    const embedded = options.trusted ? engine.code : [];
    const cubins = await obtainCubins(gpuOf(gpu), program.modules, { cache, embedded });
    await keep(cubins);
    return new LoadedProgram(gpu, engine, program, cubins.images, directIoOf(engine, program));
  });
}

async function openOn(
  { driver, device, features }: CudaMachine,
  load: (gpu: Context) => LoadedProgram | Promise<LoadedProgram>,
): Promise<OpenEngine> {
  const gpu = new Context(driver, device);
  try {
    return openLoaded(await load(gpu), features);
  } catch (cause) {
    gpu.dispose();
    throw cause;
  }
}

function openLoaded(loaded: LoadedProgram, features: readonly string[]): OpenEngine {
  const { gpu, engine, weights } = loaded;
  const contexts = new Set<CudaContext>();
  let isOpen = true;
  return {
    threads: 1,
    features,
    memoryBytes: () => {
      if (!isOpen) return 0;
      return [...contexts].reduce((sum, { bytes }) => sum + bytes, weights.byteLength);
    },
    createContext: () => {
      if (!isOpen) throw new ModelError('disposed', `engine "${engine.name}" was disposed`);
      const context: CudaContext = new CudaContext(loaded, () => contexts.delete(context));
      contexts.add(context);
      return context;
    },
    dispose: () => {
      if (!isOpen) return;
      isOpen = false;
      for (const context of [...contexts]) context.dispose();
      gpu.dispose();
    },
  };
}
