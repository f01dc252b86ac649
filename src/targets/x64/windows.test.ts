/**
 * The program made for Windows, run here: entries, threads and waiting by Windows' calling convention (tests/support/windows-emulation.ts).
 * Not run: Windows' own functions, which src/host/native-windows.ts names.
 */

import { describe, expect, test } from 'vitest';
import { emitHandmade, expectHandmade, handmadeEngine } from '../../../tests/handmade-engine.ts';
import { convKernel } from '../../../tests/support/contract-kernels.ts';
import { emulateWindows } from '../../../tests/support/windows-emulation.ts';
import { openX64Program } from '../../../tests/x64-program.ts';
import type { Engine } from '../../engine/engine.ts';
import type { Ffi, NativeArgument } from '../../host/ffi.ts';
import { openNativeSystem } from '../../host/native-system.ts';
import { windows } from '../../host/native-windows.ts';
import { readProcessorFeatures } from '../../host/processor-features.ts';
import { emitKernel } from '../cpu/emit.ts';
import { x64Machine } from './machine.ts';

const found = await x64Machine();
const native = await openNativeSystem();
const runs = typeof found !== 'string' && typeof native !== 'string' && native.calls.convention === 'systemv';

describe.skipIf(!runs)('by the convention of Windows, emulated', () => {
  if (typeof found === 'string' || typeof native === 'string') return;

  test.each([1, 2, 3, 5])('%d threads give the right answer, and every register is kept', (threads) => {
    const emulation = emulateWindows(native);
    const made = handmadeEngine({ n: 101, rounds: 6 });
    const engine: Engine = { ...made.engine, target: 'x64', code: [] };
    const machine = { ...found, system: emulation.system };
    const open = openX64Program(engine, engine, { threads }, machine, emitHandmade);
    const context = open.createContext();
    for (let run = 0; run < 200; run++) {
      const x = Int32Array.from({ length: 101 }, (_, i) => Math.imul(i + 1, run * 2654435));
      (context.inputs[0] as Int32Array).set(x);
      context.execute();
      expect(context.outputs[0]).toEqual(expectHandmade(x, made.weights, 6));
    }
    context.profile(new Float64Array(engine.steps.length));
    open.dispose();
    expect(emulation.faults()).toBe(0);
  });

  test('kernels that use all registers leave those that Windows wants kept', () => {
    const kernel = convKernel({ size: [13, 15], ic: 5, oc: 72, kernel: [3, 3], pad: 1 });
    const emulation = emulateWindows(native);
    const [step] = handmadeEngine({ n: 5, rounds: 1 }).engine.steps;
    const buffers = kernel.buffers.map(
      (_, i) => ({ space: 'arena', byteOffset: i * 2 ** 18, bytes: 2 ** 18 }) as const,
    );
    const engine: Engine = {
      ...handmadeEngine({ n: 5, rounds: 1 }).engine,
      target: 'x64',
      code: [],
      inputs: [],
      outputs: [],
      kernels: [kernel],
      steps: ['generated', 'panels'].map((template) => ({
        ...step,
        kernel: 0,
        tactic: { template, params: template === 'panels' ? { lanes: 8, rows: 4, width: 24 } : {}, predictedNs: 0 },
        buffers,
        tiles: 1,
        maxThreads: 1,
      })),
      arenaBytes: 2 ** 20,
    };
    const machine = { ...found, system: emulation.system };
    const open = openX64Program(engine, engine, { threads: 1 }, machine, emitKernel);
    open.createContext().execute();
    open.dispose();
    expect(emulation.faults()).toBe(0);
  });

  test('the processor answers alike', () => {
    const emulation = emulateWindows(native);
    expect(readProcessorFeatures(emulation.system)).toEqual(readProcessorFeatures(native));
    expect(emulation.faults()).toBe(0);
  });
});

/** Functions of Windows' libraries that write down how they are called. */
function recording(answers: Readonly<Record<string, number>>): { ffi: Ffi; calls: string[] } {
  const calls: string[] = [];
  const text = (x: NativeArgument): string =>
    typeof x === 'number' ? String(x) : new TextDecoder().decode(x as Uint8Array).replace(/\0.*$/s, '');
  const unused = (): never => {
    throw new Error('not of use here');
  };
  const ffi: Ffi = {
    symbol:
      (library, name) =>
      (...args) => {
        calls.push(`${library} ${name}(${args.map(text).join(', ')})`);
        return answers[name] ?? 1;
      },
    asyncSymbol: unused,
    functionAt: unused,
    addressOf: unused,
    readBytes: unused,
    viewOf: unused,
    readString: unused,
  };
  return { ffi, calls };
}

describe('functions of Windows', () => {
  test('are called with what their headers say', () => {
    const { ffi, calls } = recording({
      VirtualAlloc: 65536,
      CreateThread: 44,
      WaitForSingleObject: 0,
      GetProcAddress: 7,
    });
    const system = windows(ffi);
    expect(system.calls).toEqual({ convention: 'windows', waitOnAddress: 7, wakeByAddressAll: 7 });
    const pages = system.mapPages(5000);
    system.write(pages, new Uint8Array(0));
    system.makeExecutable(pages, 5000);
    system.joinThread(system.startThread(pages, 9));
    system.unmapPages(pages, 5000);
    expect(calls).toEqual([
      'kernel32.dll GetModuleHandleA(kernelbase.dll)',
      'kernel32.dll GetProcAddress(1, WaitOnAddress)',
      'kernel32.dll GetProcAddress(1, WakeByAddressAll)',
      'kernel32.dll VirtualAlloc(0, 5000, 12288, 4)',
      'kernel32.dll VirtualProtect(65536, 5000, 32, )',
      'kernel32.dll FlushInstructionCache(-1, 65536, 5000)',
      'kernel32.dll CreateThread(0, 1048576, 65536, 9, 0, 0)',
      'kernel32.dll WaitForSingleObject(44, 4294967295)',
      'kernel32.dll CloseHandle(44)',
      'kernel32.dll VirtualFree(65536, 0, 32768)',
    ]);
  });

  test('that refuse are errors', () => {
    const refusing = (name: string, answer = 0) => windows(recording({ GetProcAddress: 7, [name]: answer }).ffi);
    expect(() => refusing('VirtualAlloc').mapPages(1)).toThrow(/refused 1 bytes/);
    expect(() => refusing('VirtualProtect').makeExecutable(1, 1)).toThrow(/executable/);
    expect(() => refusing('CreateThread').startThread(1, 1)).toThrow(/a thread/);
    expect(() => refusing('WaitForSingleObject', 0xffffffff).joinThread(1)).toThrow(/join/);
    expect(() => refusing('GetProcAddress')).toThrow(/no WaitOnAddress/);
  });
});
