/**
 * An engine file, or an engine just built, to something that runs: finds the device that the engine was built for and opens it there.
 */
import { ModelError } from '../core/errors.ts';
import type { Device, OpenEngine } from '../engine/device.ts';
import type { Binding, Engine, Profile, TargetName } from '../engine/engine.ts';
import { readEngine } from '../engine/format.ts';
import { validateEngine } from '../engine/validate.ts';
import { checkedFile, checkOnce } from '../host/checked-files.ts';
import { sha256Beside } from '../host/sha256.ts';
import { firstTimeUnoptimized } from '../host/v8-flags.ts';
import { ExecutionContext, type IoInfo, ioInfo } from './context.ts';
import { Shapes } from './shapes.ts';

export interface LoadOptions {
  /** Threads to run with; 'auto', the default, is the number of cores. */
  readonly threads?: number | 'auto';
  /** The engine's file is the caller's own: compiled GPU code in it may be used as it is, instead of being compiled again. */
  readonly trusted?: boolean;
  /**
   * Code compiled for this machine is kept in the user's cache folder, and found there by the next load of the engine, in this process or
   * another; so is which version of a file was found whole, whose weights are then not hashed again. False: code is made again, all is
   * hashed, nothing is kept. The environment variable HOTROD_CACHE=off says so for all engines.
   */
  readonly cache?: boolean;
  /** Refuses an engine that was built for a machine with more features than this one, instead of running it slower. */
  readonly strict?: boolean;
  /** Told of each thing that makes the engine run slower than it could. */
  readonly onWarning?: (message: string) => void;
}

/** An engine on a device: weights once, any number of contexts. */
export interface RuntimeEngine {
  readonly name: string;
  readonly target: TargetName;
  /** With open sizes the usual shapes of the first profile. */
  readonly inputs: readonly IoInfo[];
  readonly outputs: readonly IoInfo[];
  /** The shapes that inputs may be set to; none where they are fixed. */
  readonly profiles: readonly Profile[];
  readonly threads: number;
  /** Features of the machine that are in use. */
  readonly features: readonly string[];
  /** Bytes held: weights, code, the memory of every context. */
  memoryBytes(): number;
  createContext(): ExecutionContext;
  /** Frees everything, contexts too; ends the threads. Calling twice is harmless. */
  dispose(): void;
  [Symbol.dispose](): void;
}

/**
 * Opens the engine on the one of `devices` that it was built for. Bytes in a SharedArrayBuffer or a mapped file are hashed while the
 * device works, and device x64 uses weights where they lie in one.
 * Throws ModelError `engine-parse`, `engine-version`, `engine-machine`, `target-unavailable`, `option-invalid` or `out-of-memory`.
 */
export async function loadEngine(
  source: Uint8Array | Engine,
  options: LoadOptions & { readonly devices: readonly Device[] },
): Promise<RuntimeEngine> {
  const { threads = 'auto', strict = false, trusted = false, cache = true, onWarning = () => {}, devices } = options;
  if (threads !== 'auto' && !(Number.isInteger(threads) && threads >= 1))
    throw new ModelError('option-invalid', `threads is ${threads}, expected 'auto' or a whole number from 1`);
  const file = cache && ArrayBuffer.isView(source) ? checkedFile(source) : undefined;
  const checks: Promise<void>[] = [];
  const later = (check: () => Promise<void>, digest: Uint8Array): void => {
    const checking = checkOnce(file, digest, check);
    // Opening may fail first, and then nobody waits for the check.
    checking.catch(() => {});
    checks.push(checking);
  };
  const engine = ArrayBuffer.isView(source) ? await readEngine(source, { sha256: sha256Beside, later }) : source;
  const device = devices.find((d) => d.target === engine.target);
  if (!device) {
    const here = devices.map((d) => d.target).join(', ');
    throw new ModelError('engine-machine', `engine "${engine.name}" was built for ${engine.target}; here is ${here}`, {
      hint: 'Build it for a target that is here.',
    });
  }
  const warnings: string[] = [];
  const settings = { threads, trusted, cache, onWarning: (message: string) => void warnings.push(message) };
  let open = await device.recall?.(engine, settings);
  if (!open) {
    if (engine !== source) validateFirst(() => validateEngine(engine));
    open = await device.open(engine, settings);
  }
  try {
    await Promise.all(checks);
  } catch (damage) {
    open.dispose();
    throw damage;
  }
  const lacking = engine.machine.filter((feature) => !open.features.includes(feature));
  if (lacking.length > 0) {
    const message = `engine "${engine.name}" was built for a machine with ${lacking.join(', ')}, which is not here`;
    if (strict) {
      open.dispose();
      throw new ModelError('engine-machine', message, {
        hint: 'Load it without `strict`, or build it on this machine.',
      });
    }
    // A device that says why it is slower has said it already.
    if (warnings.length === 0) warnings.push(`${message}: it runs slower than it could`);
  }
  warnings.forEach(onWarning);
  return runtimeEngine(engine, open);
}

const validateFirst = firstTimeUnoptimized();

function runtimeEngine(engine: Engine, open: OpenEngine): RuntimeEngine {
  let disposed = false;
  const dispose = (): void => {
    if (disposed) return;
    disposed = true;
    open.dispose();
  };
  const usual = engine.sizes && new Shapes(engine, new Int32Array(engine.sizes.formulas.length));
  const infoOf = (binding: Binding): IoInfo => ioInfo({ ...binding, shape: usual?.of(binding) ?? binding.shape });
  return {
    name: engine.name,
    target: engine.target,
    inputs: engine.inputs.map(infoOf),
    outputs: engine.outputs.map(infoOf),
    profiles: engine.profiles ?? [],
    threads: open.threads,
    features: open.features,
    memoryBytes: () => open.memoryBytes(),
    createContext: () => {
      if (disposed) throw new ModelError('disposed', `engine "${engine.name}" was used after dispose`);
      return new ExecutionContext(engine, open.createContext(), () => !disposed);
    },
    dispose,
    [Symbol.dispose]: dispose,
  };
}
