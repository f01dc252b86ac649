/** NVIDIA's assembler as an independent judge of PTX, where the program is present; it needs no GPU. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const ptxasIsPresent = (): boolean => spawnSync('ptxas', ['--version']).status === 0;

/** What ptxas says of a module: nothing where it takes it. With `verbose` the registers and spills of each kernel. */
export function assemble(text: string, architecture: string, { verbose = false } = {}): string {
  const folder = mkdtempSync(join(tmpdir(), 'hotrod-ptx-'));
  try {
    const file = join(folder, 'module.ptx');
    writeFileSync(file, text);
    const options = [`-arch=${architecture}`, ...(verbose ? ['-v'] : []), '-o', join(folder, 'module.cubin'), file];
    const { status, stdout, stderr } = spawnSync('ptxas', options, { encoding: 'utf8' });
    return status === 0 && !verbose ? '' : `${stdout}${stderr}`;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
