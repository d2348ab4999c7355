package org.medge.screens;

import org.medge.app.MainActivity;
import org.medge.app.MedgeApp;

final class States {
    static void show(Stage stage, String state, Host host) throws Exception {
        MedgeApp app = stage.application(MedgeApp.class, host);
        stage.begin(MainActivity.class, app, host, null);
    }
}
