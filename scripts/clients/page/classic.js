window.classic = "ran";
