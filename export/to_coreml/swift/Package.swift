// swift-tools-version: 5.9
import PackageDescription

let package = Package(
    name: "MedgeKit",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: [.library(name: "MedgeKit", targets: ["MedgeKit"])],
    targets: [
        .target(name: "MedgeKit"),
        .testTarget(name: "MedgeKitTests", dependencies: ["MedgeKit"], resources: [.copy("golden.json"), .copy("decisions.json")]),
    ]
)
