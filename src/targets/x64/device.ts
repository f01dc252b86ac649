/**
 * The device of target x64: an engine's kernels as machine code, on threads of its own.
 *
 * Machine code is made here, when an engine is opened, and never read from an engine file; what was made is kept in the user's cache, by
 * which the next opening of the engine takes a third of the time. The compiler is imported only where there is something to compile.
 */
import { ModelError } from '../../core/errors.ts';
import type { Device, DeviceInfo } from '../../engine/device.ts';
import type { Engine } from '../../engine/engine.ts';
import { fileFingerprint } from '../../engine/format.ts';
import { processorName } from '../../host/processor.ts';
import { firstTimeUnoptimized } from '../../host/v8-flags.ts';
import { type KeptCode, userCode } from './kept-code.ts';
import { type X64Machine, x64Machine } from './machine.ts';
import { crewOf, openCompiled } from './open.ts';

const compileFirst = firstTimeUnoptimized();

/** A device that keeps code where `kept` says. */
export const x64DeviceWith = (kept: () => KeptCode | undefined): Device => ({
  target: 'x64',
  probe: async (): Promise<DeviceInfo> => {
    const machine = await x64Machine();
    const name = processorName();
    return typeof machine === 'string'
      ? { target: 'x64', name, available: false, reason: machine, features: [] }
      : { target: 'x64', name, available: true, features: machine.features };
  },
  recall: async (engine, { threads, cache, onWarning }) => {
    const fingerprint = fileFingerprint(engine);
    const code = cache === false || fingerprint === undefined ? undefined : kept();
    if (!code || fingerprint === undefined) return undefined;
    const machine = await machineFor(engine);
    const crew = crewOf(threads);
    const compiled = await code.read(fingerprint, machine, crew);
    compiled?.warnings.forEach(onWarning);
    return compiled && openCompiled(engine, compiled, crew, machine);
  },
  open: async (engine, { threads, cache, onWarning }) => {
    const machine = await machineFor(engine);
    const { compileEngine } = await import('./compile.ts');
    const crew = crewOf(threads);
    const compiled = compileFirst(() => compileEngine(engine, machine, crew));
    const open = openCompiled(engine, compiled, crew, machine);
    compiled.warnings.forEach(onWarning);
    const fingerprint = fileFingerprint(engine);
    if (cache !== false && fingerprint !== undefined) await kept()?.write(fingerprint, machine, crew, compiled);
    return open;
  },
});

export const x64Device: Device = x64DeviceWith(userCode);

/** Throws ModelError `engine-machine` or `target-unavailable`. */
async function machineFor(engine: Engine): Promise<X64Machine> {
  if (engine.target !== 'x64')
    throw new ModelError('engine-machine', `engine "${engine.name}" was built for ${engine.target}, not for x64`);
  const machine = await x64Machine();
  if (typeof machine === 'string') throw new ModelError('target-unavailable', machine);
  return machine;
}
