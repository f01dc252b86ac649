/**
 * `hotrod devices`: what this machine offers, target by target, and where code compiled for it is kept.
 */
import type { Command } from 'commander';
import { userCacheHome } from '../host/cache-folder.ts';
import { probeTargets } from '../targets/all.ts';
import { textTable } from './table.ts';
import { processTerminal } from './terminal.ts';

export function addDevicesCommand(program: Command): void {
  program
    .command('devices')
    .description('list the targets of this machine, and why one is not available')
    .option('--json', 'print one JSON object on stdout and nothing else there')
    .addHelpText('after', '\nExample: hotrod devices --json')
    .action(devicesCommand);
}

async function devicesCommand(flags: { readonly json?: boolean }): Promise<void> {
  const devices = await probeTargets();
  const cache = userCacheHome();
  const kept = cache === undefined ? 'is not kept' : `is kept in ${cache}, unless HOTROD_CACHE=off`;
  processTerminal(flags.json === true).result({ devices, cache: cache ?? null }, () =>
    [
      textTable(
        ['target', 'available', 'device', 'features', 'remark'],
        devices.map((d) => [d.target, d.available ? 'yes' : 'no', d.name, d.features.join(' '), d.reason ?? '']),
      ),
      '',
      `code compiled for this machine ${kept}`,
    ].join('\n'),
  );
}
