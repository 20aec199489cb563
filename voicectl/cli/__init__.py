"""voicectl: parse, call one function of voice or memory, print. What installs and starts things is in system/."""
