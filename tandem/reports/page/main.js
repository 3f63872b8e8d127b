// What the page shows, in its order.

import { startFrontier } from "./frontier.js";
import { showHeader } from "./header.js";
import { showLevels } from "./levels.js";
import { startProblems } from "./problems.js";
import { showReliability } from "./reliability.js";
import { startTable } from "./table.js";
import { startTheme } from "./theme.js";

startTheme();
showHeader();
startFrontier();
startTable();
showLevels();
showReliability();
startProblems();
