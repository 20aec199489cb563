/** Puts the page on the screen. */
import { createRoot } from "react-dom/client";
import { takeBearer } from "./settings";
import { App } from "./ui/App";
import "./ui/style.css";

createRoot(document.getElementById("root")!).render(<App bearer={takeBearer()} />);
