import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.android)
}

// Where ci/prepare has unpacked llama.cpp for Android; without it, the app is built without a language model's engine.
val llama = file(providers.gradleProperty("medge.llama").getOrElse("${System.getProperty("user.home")}/.cache/medge/android/llama.rn"))

android {
    namespace = "org.medge.app"
    compileSdk = libs.versions.compileSdk.get().toInt()

    defaultConfig {
        applicationId = "org.medge.app"
        minSdk = libs.versions.minSdk.get().toInt()
        targetSdk = libs.versions.targetSdk.get().toInt()
        versionCode = libs.versions.versionCode.get().toInt()
        versionName = libs.versions.versionName.get()
        if (llama.isDirectory) {
            externalNativeBuild.cmake.arguments += "-DLLAMA_RN=$llama"
            externalNativeBuild.cmake.abiFilters += listOf("arm64-v8a", "x86_64")
        }
    }
    if (llama.isDirectory) {
        externalNativeBuild.cmake.path = file("src/main/cpp/CMakeLists.txt")
        sourceSets["main"].jniLibs.srcDir(llama.resolve("android/src/main/jniLibs"))
    }
    packaging {
        jniLibs.useLegacyPackaging = true // compressed in the APK, which travels on sticks
        // Of llama.rn's ten libraries, the ones that core's LlamaVariant names.
        jniLibs.excludes += listOf("**/librnllama.so", "**/librnllama_v8_2.so", "**/librnllama_v8_2_i8mm.so", "**/*hexagon*")
    }
    splits.abi {
        isEnable = true
        reset()
        include("arm64-v8a", "x86_64")
        isUniversalApk = false
    }
    compileOptions {
        targetCompatibility = JavaVersion.toVersion(libs.versions.jvmTarget.get())
        sourceCompatibility = JavaVersion.toVersion(libs.versions.jvmTarget.get())
    }
}

kotlin {
    compilerOptions.jvmTarget = JvmTarget.fromTarget(libs.versions.jvmTarget.get())
}

dependencies {
    implementation(project(":core"))
    implementation(libs.onnxruntime.android)
}
