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
import type { CacheFolder } from '../../host/cache-folder.ts';
import { parseKernel } from '../../loop/parse.ts';
import { printKernel } from '../../loop/print.ts';
import { admitEngine } from '../admit.ts';
import { CudaContext } from './context.ts';
import { cubinSections, obtainCubins, userCubins } from './cubins.ts';
import { LoadedProgram } from './loaded-program.ts';
import { type CudaMachine, cudaMachine } from './machine.ts';
import { type CudaProgram, emitProgram } from './program.ts';
import { CUDA_TEMPLATES } from './templates.ts';

export const cudaDevice: Device = {
  target: 'cuda',
  probe: async () => {
    const machine = await cudaMachine();
    if (typeof machine === 'string') {
      return { target: 'cuda', name: 'NVIDIA GPU', available: false, reason: machine, features: [] };
    }
    return { target: 'cuda', name: machine.device.name, available: true, features: machine.features };
  },
  open: async (engine, options) => {
    if (engine.target !== 'cuda') {
      throw new ModelError('engine-machine', `engine "${engine.name}" was built for ${engine.target}, not for cuda`);
    }
    const machine = await machineHere();
    const program = programOf(engine, machine, options.onWarning);
    return openProgram(engine, program, options, machine, options.cache === false ? undefined : userCubins());
  },
};

/** Compiles the engine for the GPU here and keeps the cubins in the user's cache; they are also the result. Throws as `open`. */
export async function compileEngine(engine: Engine): Promise<readonly CodeSection[]> {
  const machine = await machineHere();
  const { modules } = programOf(engine, machine);
  const gpu = new Context(machine.driver, machine.device);
  try {
    return await cubinSections(await obtainCubins(gpu, modules, { cache: userCubins(), embedded: [] }));
  } finally {
    gpu.dispose();
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
  onWarning: (message: string) => void = () => {},
): CudaProgram => emitProgram(admitEngine(asWritten(engine), CUDA_TEMPLATES, features, onWarning), chip);

/**
 * The engine with its kernels as a file has them: expressions that are equal are one there. So an engine just built gives the same code as
 * the file that it becomes, and is found compiled.
 */
const asWritten = (engine: Engine): Engine => ({
  ...engine,
  kernels: engine.kernels.map((kernel) => parseKernel(printKernel(kernel))),
});

/** Opens a program that was found safe. Throws ModelError `out-of-memory`, `device-code`, `device-lost` or `driver-error`. */
export async function openProgram(
  engine: Engine,
  program: CudaProgram,
  options: OpenOptions,
  { driver, device, features }: CudaMachine,
  cache: CacheFolder | undefined,
): Promise<OpenEngine> {
  const gpu = new Context(driver, device);
  try {
    const embedded = options.trusted ? engine.code : [];
    const { images } = await obtainCubins(gpu, program.modules, { cache, embedded });
    return openLoaded(new LoadedProgram(gpu, engine, program, images), features);
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
