/**
 * How the page is built and tested. The build goes where the control plane serves it from; it is never committed.
 * `voicectl up` runs the same build in a folder of its own (cli/system/page.py).
 */
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "../voicectl/voice/web/static",
    emptyOutDir: true,
    // Everything is a hashed file: no data: addresses, so the content security policy stays at 'self'.
    assetsInlineLimit: 0,
    // One file, 150 kB compressed, of which LiveKit's client is most: nothing is gained by splitting one screen.
    chunkSizeWarningLimit: 1200,
    modulePreload: false,
  },
  server: { proxy: { "/api": "http://127.0.0.1:9000" } },
  // @ts-expect-error: `test` belongs to vitest, whose own defineConfig would be missing where only the build is installed.
  test: { environment: "happy-dom" },
});
