// Compiles AnchorRegistry and writes the artefact: node build.mjs [OUTPUT]. The same sources and the same compiler
// give the same bytes: no metadata hash, fixed settings, keys in a fixed order.
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import solc from "solc";

const folder = dirname(fileURLToPath(import.meta.url));
const output = process.argv[2] ?? join(folder, "AnchorRegistry.json");
const names = ["AnchorRegistry.sol", "Rfc9162.sol"];
const settings = {
  evmVersion: "cancun",
  viaIR: true,
  optimizer: { enabled: true, runs: 200 },
  metadata: { bytecodeHash: "none", appendCBOR: false },
};

const text = Object.fromEntries(names.map((name) => [name, readFileSync(join(folder, name), "utf8")]));
const input = {
  language: "Solidity",
  sources: Object.fromEntries(names.map((name) => [name, { content: text[name] }])),
  settings: {
    ...settings,
    outputSelection: { "AnchorRegistry.sol": { AnchorRegistry: ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
  },
};
const result = JSON.parse(solc.compile(JSON.stringify(input)));
for (const problem of result.errors ?? []) console.error(problem.formattedMessage);
if ((result.errors ?? []).length > 0) process.exit(1);

const built = result.contracts["AnchorRegistry.sol"].AnchorRegistry;
const artefact = {
  contract: "AnchorRegistry",
  compiler: { name: "solc", version: solc.version(), settings },
  sources: Object.fromEntries(names.map((name) => [name, createHash("sha256").update(text[name]).digest("hex")])),
  abi: built.abi,
  bytecode: "0x" + built.evm.bytecode.object,
  runtime_bytecode: "0x" + built.evm.deployedBytecode.object,
};
writeFileSync(output, JSON.stringify(artefact, null, 2) + "\n");
console.log(`${output}: ${artefact.runtime_bytecode.length / 2 - 1} bytes at run time, ${solc.version()}`);
