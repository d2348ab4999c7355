import org.jetbrains.kotlin.gradle.dsl.JvmTarget

// Plain Kotlin: what a phone computes, tested on any JVM.
plugins {
    alias(libs.plugins.kotlin.jvm)
}

kotlin {
    compilerOptions.jvmTarget = JvmTarget.fromTarget(libs.versions.jvmTarget.get())
}
java {
    targetCompatibility = JavaVersion.toVersion(libs.versions.jvmTarget.get())
    sourceCompatibility = JavaVersion.toVersion(libs.versions.jvmTarget.get())
}

dependencies {
    // The same classes as in Android's package, with desktop libraries for the tests.
    compileOnly(libs.onnxruntime.jvm)
    implementation(libs.gson)
    testImplementation(libs.onnxruntime.jvm)
    testImplementation(libs.junit)
}

tasks.test {
    // What the Python side computed: `python -m medge golden BUNDLE --out FOLDER`; tests that need it are skipped without.
    systemProperty("medge.golden", providers.gradleProperty("medge.golden").getOrElse(""))
}
