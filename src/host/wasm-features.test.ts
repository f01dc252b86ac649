/** Features are found the same each time, and code compiled at once runs. */
import { expect, test } from 'vitest';
import { coreCount, processorName } from './processor.ts';
import { compileWasm, wasmFeatures } from './wasm-features.ts';

/** (module (func (export "f") (result i32) i32.const 42)) */
const ANSWER = [
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, 0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7f, 0x03, 0x02, 0x01, 0x00,
  0x07, 0x05, 0x01, 0x01, 0x66, 0x00, 0x00, 0x0a, 0x06, 0x01, 0x04, 0x00, 0x41, 0x2a, 0x0b,
]; // prettier-ignore

test('Node has SIMD, relaxed SIMD, threads, and may wait', () => {
  expect(wasmFeatures()).toEqual({ simd: true, relaxedSimd: true, threads: true, mayWait: true });
  expect(wasmFeatures()).toBe(wasmFeatures());
});
test('a module compiles with the optimising compiler from the start', async () => {
  const { module, optimized } = await compileWasm(new Uint8Array(ANSWER));
  expect(optimized).toBe(true);
  expect((new WebAssembly.Instance(module).exports.f as () => number)()).toBe(42);
});
test('what is not WebAssembly is refused as CompileError', async () => {
  await expect(compileWasm(new Uint8Array([1, 2, 3]))).rejects.toThrow(WebAssembly.CompileError);
});
test('the machine has a processor with at least one core', () => {
  expect(coreCount()).toBeGreaterThanOrEqual(1);
  expect(processorName()).not.toBe('');
});
