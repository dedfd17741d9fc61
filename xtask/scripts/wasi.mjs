// wasi.mjs FILE.wasm [ARGUMENT...]: runs a WebAssembly program under Node, as cargo's runner for wasm32-wasip1.
import { readFile } from 'node:fs/promises';
import { WASI } from 'node:wasi';

const [file, ...args] = process.argv.slice(2);
const wasi = new WASI({ version: 'preview1', args: [file, ...args], env: process.env, preopens: { '.': '.' } });
const module = await WebAssembly.compile(await readFile(file));
// What the linker did not find is an error where it is called.
const absent = {};
for (const { module: from, name } of WebAssembly.Module.imports(module)) {
  if (from === 'env') absent[name] = () => { throw new Error(`${name} was called and is not there`); };
}
process.exit(wasi.start(await WebAssembly.instantiate(module, { ...wasi.getImportObject(), env: absent })));
